//! What happens over time: each file is a state machine, and the async shell that performs its effects.

pub mod pipeline;
