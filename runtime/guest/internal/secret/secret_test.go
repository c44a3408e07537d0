package secret

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shm is a directory in a tmpfs, which /tmp need not be.
func shm(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tdx-guest-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestASecretDoesNotPrint(t *testing.T) {
	buffer, err := Take([]byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Close()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(verb, buffer); got != "[secret]" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if buffer.LogValue().String() != "[secret]" {
		t.Error("the journal gets it")
	}
}

func TestTakeOverwritesItsSource(t *testing.T) {
	source := []byte("hunter2")
	buffer, err := Take(source)
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Close()
	if !bytes.Equal(source, make([]byte, 7)) || string(buffer.Bytes()) != "hunter2" {
		t.Errorf("source %q, buffer %q", source, buffer.Bytes())
	}
}

func TestRandomKeysDiffer(t *testing.T) {
	a, err := Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if bytes.Equal(a.Bytes(), b.Bytes()) || bytes.Equal(a.Bytes(), make([]byte, 32)) {
		t.Error("not random")
	}
}

func TestStore(t *testing.T) {
	store, err := OpenStore(filepath.Join(shm(t), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if store.Has("a") {
		t.Error("has a before it is written")
	}
	for _, text := range []string{"first", "second"} {
		if err := store.Write("a", []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := store.Read("a", 10)
		if err != nil || string(got.Bytes()) != text {
			t.Fatalf("%v %v", got, err)
		}
		got.Close()
	}
	info, err := os.Stat(store.Path("a"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	if _, err := store.Read("a", 3); err == nil {
		t.Error("read what is too long")
	}
	if err := store.Wipe("a"); err != nil || store.Has("a") {
		t.Errorf("wiped: %v", err)
	}
	if err := store.Wipe("a"); err != nil {
		t.Errorf("wiped twice: %v", err)
	}
}

func TestWipeOverwritesBeforeItUnlinks(t *testing.T) {
	store, err := OpenStore(filepath.Join(shm(t), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Write("a", []byte("hunter2")); err != nil {
		t.Fatal(err)
	}
	link := store.Path("second-name")
	if err := os.Link(store.Path("a"), link); err != nil {
		t.Fatal(err)
	}
	if err := store.Wipe("a"); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(link); err != nil || !bytes.Equal(data, make([]byte, 7)) {
		t.Errorf("still there: %q %v", data, err)
	}
}

func TestStoreRefusals(t *testing.T) {
	base := shm(t)
	open := filepath.Join(base, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(open, filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	onDisk := filepath.Join(t.TempDir(), "keys")
	cases := []struct{ dir, want string }{
		{open, "its owner's alone"},
		{filepath.Join(base, "link"), "its owner's alone"},
		{onDisk, "not in a tmpfs"},
	}
	for _, c := range cases {
		if _, err := OpenStore(c.dir); err == nil || !strings.Contains(err.Error(), c.want) {
			if c.dir == onDisk && isTmpfs(t.TempDir()) {
				continue
			}
			t.Errorf("%s: got %v, want %q", c.dir, err, c.want)
		}
	}
	store, err := OpenStore(filepath.Join(base, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", store.Path("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store.Path("loose"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "loose", "missing"} {
		if _, err := store.Read(name, 100); err == nil {
			t.Errorf("read %s", name)
		}
	}
}

func isTmpfs(dir string) bool {
	data, err := os.ReadFile("/proc/self/mounts")
	return err == nil && strings.Contains(string(data), " /tmp tmpfs ") && strings.HasPrefix(dir, "/tmp/")
}
