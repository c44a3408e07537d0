package sd

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify(Ready); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
	for _, address := range []string{filepath.Join(t.TempDir(), "notify"), "@tdx-guest-test-" + filepath.Base(t.TempDir())} {
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", address)
		if err := Notify(Ready, "STATUS=here"); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 100)
		_ = socket.SetDeadline(time.Now().Add(time.Minute))
		count, err := socket.Read(buffer)
		if err != nil || string(buffer[:count]) != "READY=1\nSTATUS=here\n" {
			t.Errorf("%q %v", buffer[:count], err)
		}
		socket.Close()
	}
	t.Setenv("NOTIFY_SOCKET", "/nowhere/notify")
	if Notify(Ready) == nil {
		t.Error("nobody listens, and no error")
	}
}

// TestListeners starts itself with a socket, as the service manager would.
func TestListeners(t *testing.T) {
	if os.Getenv("TDX_GUEST_TEST_SOCKET") != "" {
		// exec.Cmd cannot know the process number beforehand, which the variable must hold.
		_ = os.Setenv("LISTEN_PID", pid())
		listeners, err := Listeners()
		if err != nil || len(listeners) != 1 || os.Getenv("LISTEN_FDS") != "" {
			t.Fatalf("%v %v", listeners, err)
		}
		connection, err := listeners[0].Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = connection.Write([]byte("hello"))
		connection.Close()
		return
	}
	name := filepath.Join(t.TempDir(), "socket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	file, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	again := exec.Command(os.Args[0], "-test.run=^TestListeners$")
	again.Env = append(os.Environ(), "TDX_GUEST_TEST_SOCKET=1", "LISTEN_FDS=1")
	again.ExtraFiles = []*os.File{file}
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	connection, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.SetDeadline(time.Now().Add(time.Minute))
	buffer := make([]byte, 10)
	if count, err := connection.Read(buffer); err != nil || string(buffer[:count]) != "hello" {
		t.Errorf("%q %v", buffer[:count], err)
	}
	if err := again.Wait(); err != nil {
		t.Error(err)
	}
}

func TestSocketsThatAreNotForUs(t *testing.T) {
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("LISTEN_PID", "1")
	if listeners, err := Listeners(); listeners != nil || err != nil {
		t.Errorf("%v %v", listeners, err)
	}
	t.Setenv("LISTEN_PID", pid())
	for _, count := range []string{"", "x", "-1", "1000"} {
		t.Setenv("LISTEN_FDS", count)
		if _, err := Listeners(); err == nil {
			t.Errorf("LISTEN_FDS=%q is taken", count)
		}
	}
}

func pid() string {
	link, _ := os.Readlink("/proc/self")
	return link
}
