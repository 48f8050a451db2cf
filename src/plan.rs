//! Pure decisions: a desired and an observed state go in, typed actions with reasons come out.

pub mod access;
pub mod adopt;
pub mod agent;
pub mod audit;
pub mod authorise;
pub mod cause;
pub mod cluster;
pub mod desired;
pub mod dockerfile;
pub mod dockerignore;
pub mod document;
pub mod drift;
pub mod evaluate;
pub mod guard;
pub mod identity;
pub mod image_key;
pub mod import;
pub mod lock;
pub mod owner;
pub mod predict;
pub mod recover;
pub mod replacement;
pub mod roll;
pub mod saved;
pub mod stack;
pub mod within;
