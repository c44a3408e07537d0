// Package sd speaks to the service manager: it says that the service is ready, and takes the sockets that the
// manager has opened for it (sd_notify(3), sd_listen_fds(3)).
package sd

import (
	"fmt"
	"net"
	"os"
	"strconv"
)

// firstSocket is the number of the first file descriptor that is handed over (SD_LISTEN_FDS_START).
const firstSocket = 3

// Ready is the state that ends the start of a unit of Type=notify.
const Ready = "READY=1"

// Notify sends states such as [Ready] or "STATUS=…". Without a service manager it does nothing.
func Notify(states ...string) error {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	if address[0] == '@' { // an abstract socket
		address = "\x00" + address[1:]
	}
	connection, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot reach the service manager: %w", err)
	}
	defer connection.Close()
	message := ""
	for _, state := range states {
		message += state + "\n"
	}
	if _, err := connection.Write([]byte(message)); err != nil {
		return fmt.Errorf("cannot tell the service manager: %w", err)
	}
	return nil
}

// Listeners returns the sockets that the service manager hands over, none without one.
func Listeners() ([]net.Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || count < 0 || count > 64 {
		return nil, fmt.Errorf("LISTEN_FDS is %q", os.Getenv("LISTEN_FDS"))
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // they are for us and not for what we may start
	}
	var listeners []net.Listener
	for number := firstSocket; number < firstSocket+count; number++ {
		file := os.NewFile(uintptr(number), "socket "+strconv.Itoa(number))
		listener, err := net.FileListener(file) // a copy of the descriptor
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("file descriptor %d is no listening socket: %w", number, err)
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}
