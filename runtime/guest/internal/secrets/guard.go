package secrets

import (
	"net"
	"sync"
)

// Bounds of open connections; those above are closed at once, so that slow senders keep no others out.
const (
	maxConnections          = 128
	maxConnectionsOfAddress = 8
)

// guardedListener bounds the connections that are open at one time, of each sender and of all.
type guardedListener struct {
	net.Listener
	lock sync.Mutex
	open map[string]int
	all  int
}

func guard(listener net.Listener) *guardedListener {
	return &guardedListener{Listener: listener, open: map[string]int{}}
}

func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		sender := senderOf(connection.RemoteAddr().String())
		if l.enter(sender) {
			return &guardedConnection{Conn: connection, leave: sync.OnceFunc(func() { l.leave(sender) })}, nil
		}
		_ = connection.Close()
	}
}

func (l *guardedListener) enter(sender string) bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.all >= maxConnections || l.open[sender] >= maxConnectionsOfAddress {
		return false
	}
	l.all++
	l.open[sender]++
	return true
}

func (l *guardedListener) leave(sender string) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.all--
	l.open[sender]--
	if l.open[sender] == 0 {
		delete(l.open, sender)
	}
}

type guardedConnection struct {
	net.Conn
	leave func()
}

func (c *guardedConnection) Close() error {
	c.leave()
	return c.Conn.Close()
}
