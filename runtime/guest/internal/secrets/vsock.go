package secrets

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/fault"
)

// vsockAddress is one end of a connection over vsock(7): the machine's context identifier and a port.
type vsockAddress struct{ cid, port uint32 }

func (vsockAddress) Network() string { return "vsock" }

// vsockPrefix is how the text of such an address begins.
const vsockPrefix = "vsock:"

func (a vsockAddress) String() string {
	if a.cid == unix.VMADDR_CID_ANY {
		return fmt.Sprintf("%sany:%d", vsockPrefix, a.port)
	}
	return fmt.Sprintf("%s%d:%d", vsockPrefix, a.cid, a.port)
}

// listenVsock listens on a port of AF_VSOCK, which package net does not know.
func listenVsock(port uint32) (net.Listener, error) {
	handle, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fault.Wrap(err, "give the image a kernel with CONFIG_VSOCKETS", "cannot open a vsock")
	}
	if err := unix.Bind(handle, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}); err != nil {
		_ = unix.Close(handle)
		return nil, fault.Wrap(err, "look what else has the port", "cannot listen on vsock port %d", port)
	}
	return listenOn(handle, vsockAddress{cid: unix.VMADDR_CID_ANY, port: port})
}

// listenOn makes a listener of a bound socket that does not block.
func listenOn(handle int, address net.Addr) (net.Listener, error) {
	if err := unix.Listen(handle, unix.SOMAXCONN); err != nil {
		_ = unix.Close(handle)
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	// A file whose descriptor does not block is waited for by the runtime's poller, as sockets of package net are.
	return &socketListener{file: os.NewFile(uintptr(handle), address.String()), address: address}, nil
}

type socketListener struct {
	file    *os.File
	address net.Addr
}

func (l *socketListener) Accept() (net.Conn, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var handle int
	var peer unix.Sockaddr
	var failure error
	err = raw.Read(func(listening uintptr) bool {
		handle, peer, failure = unix.Accept4(int(listening), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return failure != unix.EAGAIN && failure != unix.EINTR && failure != unix.ECONNABORTED
	})
	if err != nil {
		return nil, net.ErrClosed
	}
	if failure != nil {
		return nil, os.NewSyscallError("accept4", failure)
	}
	remote := vsockAddress{}
	if from, ok := peer.(*unix.SockaddrVM); ok {
		remote = vsockAddress{cid: from.CID, port: from.Port}
	}
	return &socketConnection{File: os.NewFile(uintptr(handle), remote.String()), local: l.address, remote: remote}, nil
}

func (l *socketListener) Close() error   { return l.file.Close() }
func (l *socketListener) Addr() net.Addr { return l.address }

// socketConnection is a file that is a connection; reading, writing and deadlines are those of the file.
type socketConnection struct {
	*os.File
	local  net.Addr
	remote vsockAddress
}

func (c *socketConnection) LocalAddr() net.Addr  { return c.local }
func (c *socketConnection) RemoteAddr() net.Addr { return c.remote }
