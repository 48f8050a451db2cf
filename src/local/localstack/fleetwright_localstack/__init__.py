"""fleetwright's LocalStack plugin: real autoscaling groups on top of moto.

LocalStack's community edition has no autoscaling service and its
CloudFormation skips autoscaling groups and launch templates without a word.
This package adds both, mends what moto gets wrong about them, and tells
fleetwright's local cloud which machines should exist.

It must not know anything about containers or Docker: it only keeps the
emulated account's state.

- ``hooks``           the ways in: applies the patches when they are needed, adds the routes
- ``state``           the one lock, and the revision that every change bumps
- ``service``         the ``autoscaling`` API
- ``groups``          capacity: what a group launches and terminates
- ``lifecycle``       lifecycle hooks that really wait
- ``moto_patches``    launch template versions, addresses, termination, parameters
- ``routes``          the machine feed under ``/_fleetwright``
- ``cloudformation``  resource types
"""
