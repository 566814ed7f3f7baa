//! Tests of the real binary, one module per behaviour.
//!
//! Each test starts the program in a directory of its own, on a port or socket of its own, and when it stops it the
//! harness checks that nothing is left: no process, no file, no line in the log that the test did not expect.
//! Nothing sleeps to let something happen; everything is waited for with a deadline.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that cannot go on should stop there, and show the log"
)]

mod harness;

mod access_log;
mod bad_start;
mod bad_worker;
mod by_app;
mod cgi_bad;
mod cgi_ends;
mod cgi_scripts;
mod cgi_start;
mod cgroups;
mod config;
mod connect_upstreams;
mod control_socket;
mod daemon;
mod demand;
mod departures;
mod doctor;
mod documents;
mod fastcgi_in_turn;
mod fastcgi_inbound;
mod flow_control;
mod forwarded;
mod gunicorn;
mod half_way;
mod hosting;
mod http_rules;
mod kill_workers;
mod large_bodies;
mod leaks;
mod limits;
mod listeners;
mod many_tenants;
mod max_workers;
mod overdue_worker;
mod php_variables;
mod pipe_examples;
mod pool_outage;
mod privileges;
mod proxy_protocol;
mod pull_queue;
mod python_shim;
mod queue;
mod real_apps;
mod real_sites;
mod reload;
mod reload_pools;
mod reload_tenants;
mod settings_table;
mod shared_memory;
mod signals;
mod site_files;
mod sites;
mod sites_bad_input;
mod slow_client;
mod statsd;
mod sudden_death;
mod syslog;
mod systemd;
mod tenants;
mod tidy;
mod upgrade;
mod worker_surroundings;
mod wsgi_after_answer;
mod wsgi_bad_app;
mod wsgi_bad_start;
mod wsgi_config;
mod wsgi_frameworks;
mod wsgi_front;
mod wsgi_load;
mod wsgi_overdue;
mod wsgi_reload;
mod wsgi_rules;
