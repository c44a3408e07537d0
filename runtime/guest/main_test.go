package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// said runs the program and returns its status and what it wrote to standard error.
func said(t *testing.T, arguments ...string) (int, string) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stderr
	os.Stderr = writer
	status := run(context.Background(), arguments)
	os.Stderr = before
	writer.Close()
	data, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return status, string(data)
}

func TestStatusAndWords(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	dir := t.TempDir()
	wrong := filepath.Join(dir, "wrong.json")
	if err := os.WriteFile(wrong, []byte(`{"version":1,"init":["key"]}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.json")
	if err := os.WriteFile(empty, []byte(`{"version":1}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name      string
		arguments []string
		status    int
		want      string
	}{
		{"nothing", nil, exitUsage, "usage: tdx-guest COMMAND"},
		{"unknown", []string{"format-everything"}, exitUsage, "usage: tdx-guest COMMAND"},
		{"argument", []string{"check", "x"}, exitUsage, `takes no arguments, and got "x"`},
		{"option", []string{"check", "-force"}, exitUsage, "flag provided but not defined: -force"},
		{"sample", []string{"check", "-config", "testdata/tpm-disk.json"}, exitDone, "check: the configuration is right keys=1 disks=1"},
		{"no file", []string{"check", "-config", filepath.Join(dir, "none")}, exitRefused, "check: REFUSED: cannot read the configuration"},
		{"wrong", []string{"init", "-config", wrong}, exitRefused, `unknown field "init"`},
		{"what to do", []string{"init", "-config", wrong}, exitRefused, "init: what to do: the compiler writes this file"},
		{"nothing to do", []string{"init", "-config", empty}, exitRefused, "neither keys nor disks, so there is nothing to do"},
		{"no keys", []string{"init", "-config", "testdata/secrets-env.json"}, exitRefused, "init: what to do: leave `tdx-guest init` out"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, text := said(t, c.arguments...)
			if status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("status %d, %q; want %d with %q", status, text, c.status, c.want)
			}
		})
	}
}
