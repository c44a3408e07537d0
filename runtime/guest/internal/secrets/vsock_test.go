package secrets

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSocketsThatPackageNetDoesNotKnow runs the listener of vsock over a unix socket, as tests have no hypervisor:
// only the family of the socket differs.
func TestSocketsThatPackageNetDoesNotKnow(t *testing.T) {
	name := filepath.Join(volatile(t), "socket")
	handle, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(handle, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	listener, err := listenOn(handle, vsockAddress{cid: 3, port: 5000})
	if err != nil {
		t.Fatal(err)
	}
	a := newAnswering(t, nil)
	web := a.httpServer()
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(a.listener(listener)) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", name)
	}}}
	response, err := client.Post("http://vm/v1/secrets", "application/json", strings.NewReader(`{"secrets":{"api_token":"tok_12345"}}`))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	client.CloseIdleConnections()
	if response.StatusCode != 200 || !strings.Contains(a.log.String(), "from=vsock:0") {
		t.Errorf("%s, journal %s", response.Status, a.log)
	}
	if err := web.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != http.ErrServerClosed {
		t.Error(err)
	}
}

func TestAddressesOfVsock(t *testing.T) {
	for address, want := range map[vsockAddress]string{{3, 8080}: "vsock:3:8080", {unix.VMADDR_CID_ANY, 8080}: "vsock:any:8080"} {
		if got := address.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
