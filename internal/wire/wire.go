// Package wire holds the paths and JSON bodies that allocator, agent and log
// processor share. Names follow what the existing Python clients send.
package wire

// Paths that VMs call. PathMetrics is followed by the hostname.
const (
	PathStartup   = "/vm_startup"
	PathCRDResult = "/api/crd-result"
	PathStatus    = "/api/vm-status"
	PathGPU       = "/api/gpu_health"
	PathInUse     = "/api/update_inuse_status"
	PathMetrics   = "/api/vm-metrics/"
)

// KeepaliveHeader, on the 200 that the first keep-alive of a poll begins, tells
// the agent how many seconds lie between them, so that it knows how long a
// silence means a dead connection. RestartHeader, with the value "1" on a 503,
// says that the allocator ended the poll on purpose, as when it restarts: call
// again at once.
const (
	KeepaliveHeader = "Lablink-Keepalive"
	RestartHeader   = "Lablink-Restart"
)

// StartupRequest is the body of POST /vm_startup. Existing clients send only
// the hostname; Agent tells that the caller acknowledges deliveries and can
// clean up after a released seat.
type StartupRequest struct {
	Hostname string `json:"hostname"`
	Agent    string `json:"agent,omitempty"` // name and version, such as "lablink/1.0.0"
}

// Values of StartupReply.Status.
const (
	StatusSuccess = "success" // set Chrome Remote Desktop up with PIN and Command
	StatusRelease = "release" // take it down again; only sent to callers that name their Agent
)

// StartupReply is the 200 of POST /vm_startup, after any number of newlines.
type StartupReply struct {
	Status   string `json:"status"`
	PIN      string `json:"pin,omitempty"`
	Command  string `json:"command,omitempty"`
	Delivery int64  `json:"delivery"` // to be sent back in ResultRequest
}

// Values of ResultRequest.Result.
const (
	ResultConnected = "connected" // start-host succeeded
	ResultFailed    = "failed"    // start-host, or the clean-up, did not succeed
	ResultReleased  = "released"  // the desktop is off the last Google account
)

// ResultRequest is the body of POST /api/crd-result: it acknowledges a delivery.
// The allocator answers 200, or 409 when a newer delivery has replaced this one;
// both are final.
type ResultRequest struct {
	Hostname string `json:"hostname"`
	Delivery int64  `json:"delivery"`
	Result   string `json:"result"`
	Reason   string `json:"reason,omitempty"` // for people, without secrets; at most 500 characters
}

// StatusRequest is the body of POST /api/vm-status.
type StatusRequest struct {
	Hostname string `json:"hostname"`
	Status   string `json:"status"`
	Reason   string `json:"reason,omitempty"` // of an error, for people, without secrets; at most 500 characters
}

// GPURequest is the body of POST /api/gpu_health.
type GPURequest struct {
	Hostname  string `json:"hostname"`
	GPUStatus string `json:"gpu_status"` // Healthy, Unhealthy or N/A
}

// InUseRequest is the body of POST /api/update_inuse_status.
type InUseRequest struct {
	Hostname string `json:"hostname"`
	Status   *bool  `json:"status"`
}

// MetricsRequest is the body of POST /api/vm-metrics/{hostname}. Times are Unix
// seconds. The container's own times have two spellings in the field.
type MetricsRequest struct {
	CloudInitStart     *float64 `json:"cloud_init_start,omitempty"`
	CloudInitEnd       *float64 `json:"cloud_init_end,omitempty"`
	CloudInitDuration  *float64 `json:"cloud_init_duration_seconds,omitempty"`
	ContainerStart     *float64 `json:"container_start,omitempty"`
	ContainerEnd       *float64 `json:"container_end,omitempty"`
	ContainerStartTime *float64 `json:"container_start_time,omitempty"`
	ContainerEndTime   *float64 `json:"container_end_time,omitempty"`
	ContainerDuration  *float64 `json:"container_startup_duration_seconds,omitempty"`
}

// Message is the body of a plain success.
type Message struct {
	Message string `json:"message"`
}

// Error is the body of every JSON error.
type Error struct {
	Error     string `json:"error"`
	Field     string `json:"field,omitempty"`
	RequestID string `json:"request_id,omitempty"` // to find the matching line in the log
}
