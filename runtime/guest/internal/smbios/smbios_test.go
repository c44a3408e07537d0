package smbios

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// structure is one of its kind with a formatted area of size bytes and strings behind it.
func structure(kind byte, size int, texts ...string) string {
	area := make([]byte, size)
	area[0], area[1] = kind, byte(size)
	if len(texts) == 0 {
		return string(area) + "\x00\x00"
	}
	return string(area) + strings.Join(texts, "\x00") + "\x00\x00"
}

func TestOEMStrings(t *testing.T) {
	end := structure(typeEnd, 4)
	cases := []struct {
		name, table string
		want        []string
	}{
		{"nothing", "", nil},
		{"none of the kind", structure(0, 24, "vendor", "1.0") + structure(1, 27) + end, nil},
		{"between others", structure(1, 27) + structure(11, 5, "a=1", "b=2") + structure(3, 22, "maker") + end, []string{"a=1", "b=2"}},
		{"several", structure(11, 5, "a") + structure(11, 5, "b"), []string{"a", "b"}},
		{"none in it", structure(11, 5) + structure(11, 5, "b"), []string{"b"}},
		{"behind the end", end + structure(11, 5, "a"), nil},
		{"too short", "\x0b\x03ab" + structure(11, 5, "a"), nil},
		{"longer than the table", "\x0b\xff\x00\x00", nil},
		{"strings without an end", structure(11, 5, "a") + "\x0b\x05\x00\x00\x01half\x00", []string{"a"}},
		{"one NUL byte where there are no strings", "\x01\x04\x00\x00\x00\x0b" + structure(11, 5, "a"), nil},
	}
	for _, c := range cases {
		if got := OEMStrings([]byte(c.table)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestAnyTable spoils a good table at random, as a host may.
func TestAnyTable(t *testing.T) {
	good := structure(1, 27, "maker") + structure(11, 5, "a=1", "b=2") + structure(3, 22) + structure(typeEnd, 4)
	chance := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		table := []byte(good)[:chance.IntN(len(good)+1)]
		for range chance.IntN(4) {
			if len(table) > 0 {
				table[chance.IntN(len(table))] = byte(chance.IntN(256))
			}
		}
		length := 0
		for _, text := range OEMStrings(table) {
			if text == "" || strings.Contains(text, "\x00") {
				t.Errorf("%q of %q", text, table)
			}
			length += len(text) + 1
		}
		if length > len(table) {
			t.Errorf("%d bytes of strings in %q", length, table)
		}
	}
}
