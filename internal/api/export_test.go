package api

import "time"

// SetOldHTTPWait shortens how long an HTTP/1.0 caller is held.
func (a *API) SetOldHTTPWait(d time.Duration) { a.oldHTTPWait = d }
