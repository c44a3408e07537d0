package logging

import (
	"bytes"
	"log/slog"
	"testing"
)

type hidden string

func (hidden) LogValue() slog.Value { return slog.StringValue("[secret]") }

func TestLines(t *testing.T) {
	var out bytes.Buffer
	log := For(New(&out, true), "disk")
	log.Info("volume opened", "device", "/dev/vdb", "label", "a b\nc", "key", hidden("k"), "empty", "")
	log.Warn("two\nlines")
	log.With("n", 3).Error("no")
	log.Debug("not shown")
	want := "<6>disk: volume opened device=/dev/vdb label=\"a b\\nc\" key=[secret] empty=\"\"\n<4>disk: two lines\n<3>disk: no n=3\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}

func TestWithoutPriorities(t *testing.T) {
	var out bytes.Buffer
	For(New(&out, false), "key").Info("made")
	if out.String() != "key: made\n" {
		t.Errorf("got %q", out.String())
	}
}
