package server

import "time"

// SetReadTimeout shortens how long a request may take to arrive.
func SetReadTimeout(s *Server, d time.Duration) { s.readTimeout = d }

// SetRecheckEvery shortens the pause between regular checks.
func SetRecheckEvery(s *Server, d time.Duration) { s.recheckEvery = d }
