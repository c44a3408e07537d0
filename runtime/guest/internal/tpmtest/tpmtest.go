// Package tpmtest starts software TPMs for tests.
package tpmtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Machine is a swtpm and its state, which outlives a reboot.
type Machine struct {
	t     testing.TB
	state string
	stop  func()
}

// New is a machine that is switched off. It needs swtpm on the machine that tests.
func New(t testing.TB) *Machine {
	t.Helper()
	machine := &Machine{t: t, state: t.TempDir(), stop: func() {}}
	t.Cleanup(func() { machine.stop() })
	return machine
}

// Boot starts the TPM, or starts it again: the PCRs are zero, what was sealed can be unsealed.
func (m *Machine) Boot() net.Conn {
	m.t.Helper()
	m.stop()
	dir, err := os.MkdirTemp("", "swtpm") // short: the path of a socket has at most 107 bytes
	if err != nil {
		m.t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	process := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.state, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+socket+".c", "--flags", "not-need-init,startup-clear")
	if err := process.Start(); err != nil {
		m.t.Fatalf("swtpm: %v", err)
	}
	var connection net.Conn
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if connection, err = net.Dial("unix", socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("swtpm does not answer: %v", err)
		}
	}
	m.stop = func() {
		_ = connection.Close()
		_ = process.Process.Kill()
		_ = process.Wait()
		_ = os.RemoveAll(dir)
	}
	return connection
}

// Extend measures text into a register of all banks, as firmware does.
func Extend(t testing.TB, connection net.Conn, pcr int, digests ...tpm2.TPMTHA) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: digests},
	}.Execute(transport.FromReadWriter(connection))
	if err != nil {
		t.Fatal(err)
	}
}
