//! HTTP: the pipeline server and its page, and the cluster API that control agents serve.

pub mod cluster_api;
pub mod limits;
mod pages;
pub mod pipeline;
mod strict;
