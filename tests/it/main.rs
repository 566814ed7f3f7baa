//! Tests of the real binary.
mod pipe_examples;
