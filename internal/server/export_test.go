package server

import "time"

// SetReadTimeout shortens how long a request may take to arrive.
func SetReadTimeout(s *Server, d time.Duration) { s.readTimeout = d }

// SetRecheckEvery shortens the pause between regular checks.
func SetRecheckEvery(s *Server, d time.Duration) { s.recheckEvery = d }

// SetTendEvery shortens the pause between two looks for logs that are too long.
func SetTendEvery(s *Server, d time.Duration) { s.tendEvery = d }
