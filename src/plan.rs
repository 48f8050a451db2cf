//! Pure decisions: a desired and an observed state go in, typed actions with reasons come out.

pub mod dockerfile;
pub mod dockerignore;
pub mod image_key;
