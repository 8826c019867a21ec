//! Private servers for development and tests.
