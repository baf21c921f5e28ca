// Package config reads the one strict TOML file of a cluster into typed
// values. An unknown key, a wrong type and an impossible value are errors with
// file, line, key, and what to write instead; all of a file's errors are
// reported at once. The commented reference is testdata/reference.toml.
package config
