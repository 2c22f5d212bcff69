//! What is written in a configuration and what it means. No server is started. One promise a module.

mod check;
mod config_of_secrets;
mod documents;
mod go_service;
mod mistakes;
mod nats_security;
mod precedence;
mod priority;
mod resonance;
mod sample;
mod secret_files;
mod secrets;
mod tracing;
