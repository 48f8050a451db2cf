//! Repository text to model: every problem at once, each with its place.
