package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	deviceBytes = 64 << 20
	keyText     = "0123456789abcdef0123456789abcdef"
)

var wanted = Expected{Cipher: cipherXTS, KeyBits: 512, SectorBytes: 4096, DeviceBytes: deviceBytes, Tokens: true}

// formatted is the header that cryptsetup makes for an empty disk, with its keyslots: a detached one, so
// that neither root rights nor a device mapper are needed.
func formatted(t testing.TB, options ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	device, header, key := filepath.Join(dir, "device"), filepath.Join(dir, "header"), filepath.Join(dir, "key")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(device, deviceBytes); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte(keyText), 0o600); err != nil {
		t.Fatal(err)
	}
	arguments := append([]string{"luksFormat", "--batch-mode", "--type", "luks2", "--offset", "32768", "--header", header,
		"--luks2-keyslots-size", "1m", "--pbkdf-force-iterations", "1000", "--sector-size", "4096", "--key-file", key}, options...)
	if !strings.Contains(strings.Join(options, " "), "--pbkdf ") {
		arguments = append(arguments, "--pbkdf", "pbkdf2")
	}
	if !strings.Contains(strings.Join(options, " "), "--key-size ") {
		arguments = append(arguments, "--key-size", "512")
	}
	run(t, append(arguments, device)...)
	data, err := os.ReadFile(header)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func run(t testing.TB, arguments ...string) string {
	t.Helper()
	program, err := exec.LookPath("cryptsetup")
	if err != nil {
		program = "/usr/sbin/cryptsetup"
	}
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("cryptsetup %v: %v\n%s", arguments, err, out)
	}
	return string(out)
}

// reader is the header at the start of a device full of zeros.
func reader(data []byte) *bytes.Reader {
	return bytes.NewReader(append(bytes.Clone(data), make([]byte, 1<<20)...))
}

// withText replaces text in the JSON of both copies and makes the checksums right.
func withText(t testing.TB, data []byte, old, new string) []byte {
	t.Helper()
	size := int(binary.BigEndian.Uint64(data[offsetSize:]))
	out := bytes.Clone(data)
	for _, begin := range []int{0, size} {
		area := out[begin+binaryBytes : begin+size]
		before := string(bytes.TrimRight(area, "\x00"))
		after := strings.Replace(before, old, new, 1)
		if after == before || len(after) >= len(area) {
			t.Fatalf("%q cannot become %q in %s", old, new, before)
		}
		clear(area)
		copy(area, after)
		resum(out[begin : begin+size])
	}
	return out
}

// withBytes writes into the binary part of both copies and makes the checksums right.
func withBytes(data []byte, offset int, value []byte) []byte {
	size := int(binary.BigEndian.Uint64(data[offsetSize:]))
	out := bytes.Clone(data)
	for _, begin := range []int{0, size} {
		copy(out[begin+offset:], value)
		resum(out[begin : begin+size])
	}
	return out
}

func resum(one []byte) {
	clear(one[offsetSum : offsetSum+sumBytes])
	copy(one[offsetSum:], checksum(one))
}

func TestRealHeadersAreTaken(t *testing.T) {
	cases := []struct {
		name     string
		options  []string
		expected Expected
	}{
		{"512 bits", nil, wanted},
		{"256 bits", []string{"--key-size", "256"}, Expected{Cipher: cipherXTS, KeyBits: 256, SectorBytes: 4096, DeviceBytes: deviceBytes}},
		{"argon2id", []string{"--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "64", "--pbkdf-parallel", "1"}, wanted},
		{"larger metadata", []string{"--luks2-metadata-size", "64k"}, wanted},
		{"sectors of 512", []string{"--sector-size", "512"}, Expected{Cipher: cipherXTS, KeyBits: 512, SectorBytes: 512, DeviceBytes: deviceBytes}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			header, err := Read(reader(formatted(t, c.options...)))
			if err != nil {
				t.Fatal(err)
			}
			if err := header.Check(c.expected); err != nil {
				t.Error(err)
			}
			if header.Recovered || header.DataOffset() != 16<<20 {
				t.Errorf("recovered %v, data at %d", header.Recovered, header.DataOffset())
			}
		})
	}
}

// TestWrittenAnewCryptsetupOpensIt is the round trip: what we write is a header to cryptsetup, opens with the
// key, and carries our token.
func TestWrittenAnewCryptsetupOpensIt(t *testing.T) {
	source := reader(formatted(t))
	header, err := Read(source)
	if err != nil {
		t.Fatal(err)
	}
	header.Metadata.Tokens = map[string]Token{"0": {Type: TokenType, Keyslots: []string{"0"}, Public: []byte("p"), Private: []byte("q")}}
	header.SeqID++
	detached, err := header.Detached(source)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, key := filepath.Join(dir, "header"), filepath.Join(dir, "key")
	if err := errors.Join(os.WriteFile(path, detached, 0o600), os.WriteFile(key, []byte(keyText), 0o600)); err != nil {
		t.Fatal(err)
	}
	run(t, "open", "--test-passphrase", "--type", "luks2", "--key-file", key, path)
	if dump := run(t, "luksDump", path); strings.Contains(dump, TokenType) {
		t.Error("the detached copy carries a token")
	}
	whole, err := header.Encode()
	if err != nil {
		t.Fatal(err)
	}
	copy(detached, whole)
	if err := os.WriteFile(path, detached, 0o600); err != nil {
		t.Fatal(err)
	}
	if dump := run(t, "luksDump", path); !strings.Contains(dump, TokenType) {
		t.Errorf("no token in\n%s", dump)
	}
	again, err := Read(reader(detached))
	if err != nil || again.Token() == nil || string(again.Token().Public) != "p" {
		t.Errorf("read again: %v %v", again, err)
	}
}

func TestHostileHeadersAreRefused(t *testing.T) {
	good := formatted(t)
	tokenOf := func(kind string) string {
		return `"tokens":{"0":{"type":"` + kind + `","keyslots":["0"]}}`
	}
	cases := []struct{ name, old, new, want string }{
		{"null cipher", `"iv_tweak":"0","encryption":"aes-xts-plain64"`, `"iv_tweak":"0","encryption":"cipher_null-ecb"`, "null cipher"},
		{"null cipher of a keyslot", `"size":"258048","encryption":"aes-xts-plain64"`, `"size":"258048","encryption":"cipher_null-ecb"`, `keyslot 0: it is encrypted with "cipher_null-ecb"`},
		{"weaker cipher", `"iv_tweak":"0","encryption":"aes-xts-plain64"`, `"iv_tweak":"0","encryption":"aes-ecb"`, `encrypted with "aes-ecb", and the configuration says`},
		{"plain segment", `"type":"crypt"`, `"type":"linear"`, "without encryption"},
		{"second segment", `"segments":{`, `"segments":{"1":{"type":"linear","offset":"16777216","size":"dynamic"},`, `segments are [0 1]`},
		{"second segment, well formed", `"segments":{`, `"segments":{"1":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096},`, "segments are [0 1]"},
		{"repeated segment", `"segments":{`, `"segments":{"0":{"type":"linear"},`, `"0" is there twice`},
		{"no segment", `"segments":{"0":`, `"segments":{"1":`, "segments are [1]"},
		{"segment in the header", `"offset":"16777216"`, `"offset":"32768"`, "inside of the header"},
		{"segment behind the device", `"offset":"16777216"`, `"offset":"1099511627776"`, "and the device has"},
		{"segment of a fixed size", `"size":"dynamic"`, `"size":"4096"`, `has the size "4096"`},
		{"iv_tweak", `"iv_tweak":"0"`, `"iv_tweak":"8"`, "iv_tweak 8"},
		{"sector size", `"sector_size":4096`, `"sector_size":512`, "sectors of 512 bytes"},
		{"integrity that was not asked for", `"sector_size":4096`, `"sector_size":4096,"integrity":{"type":"none","journal_encryption":"none","journal_integrity":"none"}`, "has the integrity"},
		{"segment flags", `"sector_size":4096`, `"sector_size":4096,"flags":["in-reencryption"]`, `unknown field "flags"`},
		{"activation flags", `"config":{`, `"config":{"flags":["allow-discards"],`, `unknown field "flags"`},
		{"requirements", `"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt"]},`, `unknown field "requirements"`},
		{"keyslot of reencryption", `"type":"luks2"`, `"type":"reencrypt"`, `its type is "reencrypt"`},
		{"no keyslot", `"keyslots":{"0"`, `"keyslots":{"x"`, `a keyslot has the number "x"`},
		{"keyslot behind its area", `"offset":"32768","size":"258048"`, `"offset":"1069056","size":"258048"`, "is not inside"},
		{"keyslot in the header", `"offset":"32768","size":"258048"`, `"offset":"4096","size":"258048"`, "is not inside"},
		{"keyslot of 2^63 bytes", `"size":"258048"`, `"size":"9223372036854775807"`, "is not inside"},
		{"small keyslot", `"size":"258048"`, `"size":"4096"`, "too few"},
		{"stripes", `"stripes":4000`, `"stripes":1`, "1 stripes"},
		{"key size of the area", `"encryption":"aes-xts-plain64","key_size":64`, `"encryption":"aes-xts-plain64","key_size":16`, "key of 16 bytes"},
		{"shorter volume key", `"type":"luks2","key_size":64`, `"type":"luks2","key_size":32`, "holds a key of 32 bytes"},
		{"one iteration", `"iterations":1000`, `"iterations":1`, "1 iterations"},
		{"iterations for years", `"iterations":1000`, `"iterations":2000000000`, "2000000000 iterations"},
		{"argon2 with all memory", `"type":"pbkdf2","hash":"sha256","iterations":1000`, `"type":"argon2id","time":4,"memory":999999999,"cpus":1`, "memory 999999999 KiB"},
		{"KDF", `"kdf":{"type":"pbkdf2"`, `"kdf":{"type":"none"`, `its KDF is "none"`},
		{"KDF hash", `"kdf":{"type":"pbkdf2","hash":"sha256"`, `"kdf":{"type":"pbkdf2","hash":"sha1"`, `of "sha1"`},
		{"digest of nothing", `"segments":["0"]`, `"segments":[]`, "segments []"},
		{"keyslot without digest", `"keyslots":["0"]`, `"keyslots":[]`, "keyslots []"},
		{"digest hash", `"segments":["0"],"hash":"sha256"`, `"segments":["0"],"hash":"md5"`, `of "md5"`},
		{"foreign token", `"tokens":{}`, tokenOf("systemd-tpm2"), "systemd-tpm2"},
		{"token for no keyslot", `"tokens":{}`, strings.Replace(tokenOf(TokenType), `["0"]`, `["7"]`, 1), `keyslot "7"`},
		{"number without quotes", `"offset":"16777216"`, `"offset":16777216`, "not understood"},
		{"number with a sign", `"offset":"16777216"`, `"offset":"+16777216"`, "is not a number"},
		{"json_size", `"json_size":"12288"`, `"json_size":"4096"`, "json_size is 4096"},
		{"no keyslots area", `"keyslots_size":"1048576"`, `"keyslots_size":"0"`, "keyslots_size is 0"},
		{"keyslots area of 2^62 bytes", `"keyslots_size":"1048576"`, `"keyslots_size":"4611686018427387904"`, "keyslots_size is"},
		{"key in another case", `"segments":`, `"Segments":`, `"Segments" is unknown`},
		{"not JSON", `{"keyslots"`, `{"keyslots`, "not understood"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			header, err := Read(reader(withText(t, good, c.old, c.new)))
			if err == nil {
				err = header.Check(wanted)
			}
			expectRefusal(t, err, c.want)
		})
	}
}

func expectRefusal(t *testing.T, err error, want string) {
	t.Helper()
	if !isRefusal(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want a refusal with %q", err, want)
	}
}

func TestHostileBinaryHeadersAreRefused(t *testing.T) {
	good := formatted(t)
	big := func(value uint64) []byte { return binary.BigEndian.AppendUint64(nil, value) }
	cases := []struct {
		name   string
		offset int
		value  []byte
		want   string
	}{
		{"LUKS1", offsetVersion, []byte{0, 1}, "version 1"},
		{"checksum", offsetAlg, []byte("crc32\x00\x00"), `"crc32"`},
		{"place", offsetOffset, big(4096), "says that it is at byte"},
		{"UUID", offsetUUID, []byte("../../../etc/passwd"), "its UUID is"},
		{"behind the JSON", binaryBytes + 12000, []byte("x"), "behind the end"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(reader(withBytes(good, c.offset, c.value)))
			expectRefusal(t, err, c.want)
		})
	}
	for _, size := range []uint64{0, 4096, 12345, 1 << 22, 1 << 40, 1<<64 - 1} {
		changed := bytes.Clone(good)
		binary.BigEndian.PutUint64(changed[offsetSize:], size)
		_, err := Read(reader(changed))
		expectRefusal(t, err, "and only [16384 32768 65536] are taken")
	}
}

func TestDamageIsToldFromAbsence(t *testing.T) {
	good := formatted(t)
	damaged := func(places ...int) *bytes.Reader {
		out := bytes.Clone(good)
		for _, place := range places {
			out[place] ^= 1
		}
		return reader(out)
	}
	second := 16 << 10
	cases := []struct {
		name   string
		device *bytes.Reader
		want   error
	}{
		{"zeros", bytes.NewReader(make([]byte, 1<<20)), ErrNone},
		{"nothing", bytes.NewReader(nil), ErrNone},
		{"both checksums", damaged(5000, second+5000), ErrDamaged},
		{"first magic, second checksum", damaged(0, second+5000), ErrDamaged},
		{"both magics", damaged(0, second), ErrNone},
	}
	for _, c := range cases {
		if _, err := Read(c.device); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	for name, device := range map[string]*bytes.Reader{"first": damaged(5000), "first magic": damaged(0), "second": damaged(second + 5000)} {
		if header, err := Read(device); err != nil || !header.Recovered {
			t.Errorf("%s damaged: got %v, %v", name, header, err)
		}
	}
}

func TestCutOff(t *testing.T) {
	good := formatted(t)
	_, err := Read(bytes.NewReader(good[:8192]))
	expectRefusal(t, err, "cut off")
	header, err := Read(bytes.NewReader(good[:40<<10]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := header.Detached(bytes.NewReader(good[:40<<10])); err == nil {
		t.Error("the keyslots are cut off, and nobody minds")
	}
}

func TestNewerCopyWinsAndStrangersAreRefused(t *testing.T) {
	good := formatted(t)
	size := 16 << 10
	newer := bytes.Clone(good)
	binary.BigEndian.PutUint64(newer[size+offsetSeqID:], 99)
	resum(newer[size : 2*size])
	if header, err := Read(reader(newer)); err != nil || header.SeqID != 99 {
		t.Errorf("got %v %v", header, err)
	}
	stranger := bytes.Clone(good)
	copy(stranger[size+offsetUUID:], "00000000-0000-4000-8000-000000000000")
	resum(stranger[size : 2*size])
	_, err := Read(reader(stranger))
	expectRefusal(t, err, "belong to different disks")
	hostile := bytes.Clone(good)
	area := hostile[size+binaryBytes : 2*size]
	changed := bytes.Replace(area, []byte(`"type":"crypt"`), []byte(`"type":"linea"`), 1)
	copy(area, changed)
	resum(hostile[size : 2*size])
	_, err = Read(reader(hostile))
	expectRefusal(t, err, "only crypt is taken")
}

func TestIntegrityDowngrade(t *testing.T) {
	good := formatted(t)
	expected := wanted
	expected.HMAC = true
	header, err := Read(reader(good))
	if err != nil {
		t.Fatal(err)
	}
	expectRefusal(t, header.Check(expected), "downgraded")
	weak := withText(t, good, `"sector_size":4096`, `"sector_size":4096,"integrity":{"type":"crc32c","journal_encryption":"none","journal_integrity":"none"}`)
	if header, err = Read(reader(weak)); err != nil {
		t.Fatal(err)
	}
	expectRefusal(t, header.Check(expected), `"crc32c"`)
}

func TestATokenWithoutASealedKey(t *testing.T) {
	data := withText(t, formatted(t), `"tokens":{}`, `"tokens":{"0":{"type":"`+TokenType+`","keyslots":["0"]}}`)
	header, err := Read(reader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := header.Check(wanted); err != nil {
		t.Error(err)
	}
	expected := wanted
	expected.Tokens = false
	expectRefusal(t, header.Check(expected), "nothing of a sealed key")
}

// FuzzRead makes the checksum right, so that the fuzzer gets behind it. What is taken must be written anew
// and read back as the same.
func FuzzRead(f *testing.F) {
	good := formatted(f)[:32<<10]
	f.Add(good[:binaryBytes], bytes.TrimRight(good[binaryBytes:16<<10], "\x00"))
	f.Fuzz(func(t *testing.T, head, area []byte) {
		data := make([]byte, 32<<10)
		copy(data[:binaryBytes], head)
		copy(data[binaryBytes:16<<10], area)
		resum(data[:16<<10])
		header, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		whole, err := header.Encode()
		if err != nil {
			return // our JSON may be longer than the one it was read from
		}
		again, err := Read(bytes.NewReader(append(whole, make([]byte, 4096)...)))
		if err != nil || again.UUID != header.UUID || again.DataOffset() != header.DataOffset() {
			t.Errorf("written anew: %v, %v", again, err)
		}
	})
}
