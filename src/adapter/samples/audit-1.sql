CREATE TABLE log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL,
    shipped INTEGER NOT NULL
) STRICT;
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    change INTEGER NOT NULL,
    begins INTEGER NOT NULL CHECK (begins IN (0, 1)),
    class TEXT NOT NULL CHECK (class IN ('person', 'machine', 'denied')),
    at TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX event_change ON event (change, number);
CREATE INDEX event_begin ON event (class, number) WHERE begins = 1;
INSERT INTO log VALUES (1, 'i-1-0badcafe', 2);
INSERT INTO event VALUES (1, 1, 1, 'person', '2026-11-28T12:00:00.000Z', '{"begun":{"version":1,"id":"i-1-0badcafe-1","at":"2026-11-28T12:00:00Z","by":"arn:aws:iam::123456789012:user/ada","level":"deployer","from":"10.0.0.9","operation":"deploy","target":"service/web","details":{"digest":"sha256:0"},"recorded_by":"i-1"}}');
INSERT INTO event VALUES (2, 1, 0, 'person', '2026-11-28T12:00:01.000Z', '{"ended":{"version":1,"id":"i-1-0badcafe-1","at":"2026-11-28T12:00:01Z","outcome":"done","details":{"revision":"3"}}}');
INSERT INTO event VALUES (3, 3, 1, 'machine', '2026-11-28T12:01:00.000Z', '{"begun":{"version":1,"id":"i-1-0badcafe-3","at":"2026-11-28T12:01:00Z","by":"machine/i-9","operation":"drain","target":"machine/i-9","recorded_by":"i-1"}}');
PRAGMA user_version = 1;
