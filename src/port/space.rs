//! Room on the disks that runs need.

/// Looks at disks.
pub trait Space: Send + Sync {
    /// Why no further run may be begun, as the end of a sentence; `None` while there is room.
    fn lack(&self) -> Option<String>;

    /// Why steps that are under way must not fill a disk any further, as the end of a sentence; `None` while there is room
    /// for the journal.
    fn danger(&self) -> Option<String> {
        None
    }
}
