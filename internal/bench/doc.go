// Package bench holds no code: its benchmarks measure LabLink as a whole, each
// number beside a floor, which is the least that the same machine can do in the
// same run. docs/benchmarks.md explains them.
package bench
