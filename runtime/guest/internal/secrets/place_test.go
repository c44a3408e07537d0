package secrets

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// volatile makes a folder in memory, as /run is in a machine.
func volatile(t testing.TB) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "tdx-guest-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

func mine(name string, mode uint32) place {
	return place{path: name, mode: mode, uid: os.Geteuid(), gid: os.Getegid()}
}

func put(to place, data string) error {
	file, err := stage(to, []byte(data))
	if err != nil {
		return err
	}
	return file.commit()
}

func TestFilesAreThereOnlyAfterCommit(t *testing.T) {
	name := filepath.Join(volatile(t), "a", "b", "secret")
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	file, err := stage(mine(name, 0o440), []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before commit: %v", err)
	}
	if err := file.commit(); err != nil {
		t.Fatal(err)
	}
	about, err := os.Stat(name)
	if err != nil || about.Mode().Perm() != 0o440 {
		t.Errorf("mode %v %v", about.Mode(), err)
	}
	above, err := os.Stat(filepath.Dir(name))
	if err != nil || above.Mode().Perm() != 0o711 {
		t.Errorf("mode of the folder %v %v", above.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(name)); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

func TestDiscardLeavesNothing(t *testing.T) {
	folder := volatile(t)
	file, err := stage(mine(filepath.Join(folder, "secret"), 0o400), []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	file.discard()
	if entries, _ := os.ReadDir(folder); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
}

func TestPlacesThatAreRefused(t *testing.T) {
	folder := volatile(t)
	open := filepath.Join(folder, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(open, filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		filepath.Join(folder, "link", "secret"):   "symbolic link",
		filepath.Join(folder, "link", "x", "s"):   "symbolic link",
		filepath.Join(open, "secret"):             "others can write",
		"/proc/secret":                            "not on a tmpfs",
		filepath.Join("/proc/self/cwd", "secret"): "symbolic link",
	} {
		if err := put(mine(name, 0o400), "x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestALinkInThePlaceIsReplacedAndNotFollowed(t *testing.T) {
	folder := volatile(t)
	victim := filepath.Join(folder, "victim")
	if err := os.WriteFile(victim, []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(folder, "secret")
	if err := os.Symlink(victim, name); err != nil {
		t.Fatal(err)
	}
	if err := put(mine(name, 0o400), "new"); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(victim); string(data) != "as it was" {
		t.Errorf("the target of the link has %q", data)
	}
	if data, _ := os.ReadFile(name); string(data) != "new" {
		t.Errorf("the place has %q", data)
	}
}

// TestAKilledWriterLeavesNoPartialFile kills a process that does nothing but replace a file, many times: what is
// there is always one of the two contents, from end to end.
func TestAKilledWriterLeavesNoPartialFile(t *testing.T) {
	if name := os.Getenv("TDX_GUEST_TEST_WRITER"); name != "" {
		for turn := 0; ; turn++ {
			if err := put(mine(name, 0o400), writerContents[turn%2]); err != nil {
				panic(err)
			}
			if turn == 0 {
				fmt.Println("writing")
			}
		}
	}
	name := filepath.Join(volatile(t), "secret")
	for round := range 30 {
		writer := exec.Command(os.Args[0], "-test.run=^TestAKilledWriterLeavesNoPartialFile$")
		writer.Env = append(os.Environ(), "TDX_GUEST_TEST_WRITER="+name)
		said, err := writer.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(said).ReadString('\n'); err != nil {
			t.Fatalf("the writer says %q: %v", line, err)
		}
		time.Sleep(time.Duration(round) * 617 * time.Microsecond)
		_ = writer.Process.Kill()
		_ = writer.Wait()
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, []byte(writerContents[0])) && !bytes.Equal(data, []byte(writerContents[1])) {
			t.Fatalf("round %d: %d bytes that are neither of the two contents", round, len(data))
		}
	}
}

var writerContents = [2]string{strings.Repeat("a", 300_000), strings.Repeat("b", 200_001)}

func TestUnknownAccountsAreNamed(t *testing.T) {
	if _, err := userID("nobody-of-that-name"); err == nil || !strings.Contains(err.Error(), "no user or group nobody-of-that-name") {
		t.Error(err)
	}
	if _, err := groupID("nobody-of-that-name"); err == nil {
		t.Error("no refusal")
	}
	if id, err := userID("1234"); err != nil || id != 1234 {
		t.Error(id, err)
	}
	if id, err := groupID("root"); err != nil || id != 0 {
		t.Error(id, err)
	}
}
