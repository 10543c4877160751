//go:build race

package cli_test

// buildFlags build the program as the tests themselves were.
var buildFlags = []string{"-race"}
