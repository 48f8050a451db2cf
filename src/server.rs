//! HTTP: the pipeline server and its page, and the cluster API that control agents serve.

pub mod agent_api;
pub mod callers;
pub mod cluster_api;
mod form;
pub mod hooks;
pub mod limits;
pub mod log_api;
mod metrics;
mod openapi;
mod page_routes;
mod pages;
pub mod pipeline;
pub mod pipeline_api;
mod pipeline_metrics;
pub mod role_api;
pub mod service_pages;
mod shell_api;
mod stack_pages;
pub mod step_api;
mod strict;
mod tls;
mod upgrade;
