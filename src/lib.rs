//! rgunicorn puts any app in any language behind HTTP.
//!
//! Codecs translate, plans decide, shells act.
//!
//! - [`base`]: plain shared types
//! - codecs, bytes to events and back: [`http1`], [`fastcgi`], [`pipe`], [`cgi`], [`proxy`], [`files`],
//!   [`control`], [`command`]
//! - plans, events and time to actions: [`plan`]
//! - services: [`config`], [`logging`], [`sys`] (the only unsafe code)
//! - shells, the only owners of sockets and processes: [`front`], [`arbiter`], [`runner`],
//!   [`commander`], [`doctor`]
//! - [`cli`]: the command line

pub mod arbiter;
pub mod base;
pub mod cgi;
pub mod cli;
pub mod command;
pub mod commander;
pub mod config;
pub mod control;
pub mod doctor;
pub mod fastcgi;
pub mod files;
pub mod front;
pub mod http1;
pub mod logging;
pub mod pipe;
pub mod plan;
pub mod proxy;
pub mod runner;
pub mod shims;
pub mod sys;
