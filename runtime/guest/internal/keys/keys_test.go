package keys

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/disk"
	"tdxvm/guest/internal/logging"
)

const keyText = "0123456789abcdef0123456789abcdef"

// system is one whose run directory is a fresh one in a tmpfs.
func system(t *testing.T, log *bytes.Buffer) *disk.System {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tdx-guest-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &disk.System{Log: logging.New(log, false), RunDir: dir}
}

func provide(t *testing.T, key config.Key) ([]byte, string, error) {
	t.Helper()
	var log bytes.Buffer
	machine := system(t, &log)
	source := &Source{Log: logging.New(&log, false), Disks: machine}
	err := source.Run(t.Context(), &config.Config{Keys: []config.Key{key}})
	data, _ := os.ReadFile(filepath.Join(machine.RunDir, "keys", key.Name))
	return data, log.String(), err
}

func TestARandomKeyIsForItsOwnerAlone(t *testing.T) {
	key := config.Key{Name: "scratch", Strategy: config.KeyRandom, SizeBytes: 64}
	first, log, err := provide(t, key)
	if err != nil || len(first) != 64 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	if !strings.Contains(log, "value=[secret]") || strings.Contains(log, string(first)) {
		t.Errorf("the log has %q", log)
	}
	second, _, err := provide(t, key)
	if err != nil || bytes.Equal(first, second) {
		t.Errorf("the same key again, %v", err)
	}
}

func TestAKeyThatIsThereIsLeftAlone(t *testing.T) {
	var log bytes.Buffer
	machine := system(t, &log)
	source := &Source{Log: logging.New(&log, false), Disks: machine}
	conf := &config.Config{Keys: []config.Key{{Name: "scratch", Strategy: config.KeyRandom, SizeBytes: 32}}}
	var seen [][]byte
	for range 2 {
		if err := source.Run(t.Context(), conf); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(machine.RunDir, "keys", "scratch"))
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, data)
	}
	if !bytes.Equal(seen[0], seen[1]) {
		t.Error("the second run made another key")
	}
}

// TestPipe writes parts into the pipe, with a pause before each.
func TestPipe(t *testing.T) {
	cases := []struct {
		name  string
		parts []string
		want  string
	}{
		{"whole", []string{keyText}, ""},
		{"in parts", []string{keyText[:5], keyText[5:]}, ""},
		{"short", []string{"short"}, "shorter than the 32 bytes"},
		{"long", []string{keyText + "x"}, "longer than the 32 bytes"},
		{"line break", []string{keyText + "\n"}, "longer than the 32 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "pipe")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			written := make(chan struct{})
			go func() {
				defer close(written)
				writeParts(t, path, c.parts)
			}()
			got, err := readPipe(t.Context(), path, 32, time.Minute)
			<-written
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), keyText) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			if string(got.Bytes()) != keyText {
				t.Error("another key")
			}
		})
	}
}

// TestPipeWithoutAnEnd has the pipe open for writing from before the first read until after the last.
func TestPipeWithoutAnEnd(t *testing.T) {
	for _, text := range []string{"", keyText} {
		path := filepath.Join(t.TempDir(), "pipe")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		pipe, err := os.OpenFile(path, os.O_RDWR, 0) // does not wait for a reader (fifo(7))
		if err != nil {
			t.Fatal(err)
		}
		defer pipe.Close()
		if _, err := pipe.WriteString(text); err != nil {
			t.Fatal(err)
		}
		_, err = readPipe(t.Context(), path, 32, 500*time.Millisecond)
		if err == nil || !strings.Contains(err.Error(), "no whole key came through") || strings.Contains(err.Error(), keyText) {
			t.Errorf("%d bytes: got %v", len(text), err)
		}
	}
}

func TestPipeThatNobodyOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if _, err := readPipe(t.Context(), path, 32, 300*time.Millisecond); err == nil || !strings.Contains(err.Error(), "no whole key came through") {
		t.Errorf("got %v", err)
	}
}

func writeParts(t *testing.T, path string, parts []string) {
	pipe, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer pipe.Close()
	for _, part := range parts {
		time.Sleep(50 * time.Millisecond)
		if _, err := pipe.WriteString(part); err != nil {
			t.Error(err)
		}
	}
}

func TestPipeRefusals(t *testing.T) {
	dir := t.TempDir()
	file, link, loose := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "loose")
	if err := os.WriteFile(file, []byte(keyText), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(loose, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(loose, 0o666); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file: "must be a named pipe", loose: "its owner's alone", link: "cannot open the pipe", filepath.Join(dir, "no/pipe"): "cannot make the pipe",
	} {
		if _, err := readPipe(t.Context(), path, 32, time.Second); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

func TestAPipeThatIsMissingIsMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := readPipe(ctx, path, 32, time.Minute); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("got %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != os.ModeNamedPipe|0o600 {
		t.Errorf("%v %v", info, err)
	}
}
