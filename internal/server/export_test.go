package server

import "time"

// SetReadTimeout shortens how long a request may take to arrive.
func SetReadTimeout(s *Server, d time.Duration) { s.readTimeout = d }
