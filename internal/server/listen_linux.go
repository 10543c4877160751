package server

import (
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// userTimeout is how long sent data may stay unacknowledged, in milliseconds,
// until the kernel gives a connection up. A VM that lost its network would
// otherwise seem to wait for a quarter of an hour: the kernel goes on
// retransmitting a keep-alive for that long. Accepted connections inherit it.
const userTimeout = 60_000

func listen(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
		})
		if err != nil {
			return err
		}
		return set
	}}
	return lc.Listen(ctx, "tcp", address)
}
