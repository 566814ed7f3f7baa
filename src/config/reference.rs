//! Renders what is generated from the table of settings.
