package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/luks"
)

// memory is a device in memory that notes every write, so that a test can stop between any two sectors.
type memory struct {
	data   []byte
	writes []write
}

type write struct {
	offset int64
	sector []byte
}

func newMemory(size int) *memory { return &memory{data: make([]byte, size)} }

func (m *memory) ReadAt(into []byte, offset int64) (int, error) {
	if offset >= int64(len(m.data)) {
		return 0, io.EOF
	}
	n := copy(into, m.data[offset:])
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(data []byte, offset int64) (int, error) {
	for begin := 0; begin < len(data); begin += sectorBytes {
		sector := data[begin:min(begin+sectorBytes, len(data))]
		if at := offset + int64(begin); !bytes.Equal(m.data[at:at+int64(len(sector))], sector) {
			m.writes = append(m.writes, write{at, bytes.Clone(sector)})
		}
	}
	return copy(m.data[offset:], data), nil
}

func (m *memory) Sync() error { return nil }

const (
	testBytes = minDeviceBytes
	uuidA     = "6d7b1f0e-0000-4000-8000-00000000000a"
	uuidB     = "6d7b1f0e-0000-4000-8000-00000000000b"
)

func testDisk(format string) *config.Disk {
	return &config.Disk{
		Name: "data", Device: config.Device{Strategy: config.DevicePath, Path: "/dev/vdb"}, Format: format, Key: "disk",
		Cipher: "aes-xts-plain64", KeyBits: 512, Integrity: config.IntegrityNone, SectorBytes: 4096, FS: "ext4", MountAt: "/data",
	}
}

var (
	sealedKey = &config.Key{Name: "disk", Strategy: config.KeyTPM, SizeBytes: 64, TPM: &config.TPM{}}
	pipeKey   = &config.Key{Name: "disk", Strategy: config.KeyPipe, SizeBytes: 64, Pipe: &config.Pipe{}}
)

// goodHeader is a header of the shape that cryptsetup makes for us. Whether real ones are taken is tested in
// the package luks.
func goodHeader(uuid string, token bool) *luks.Header {
	salt := make([]byte, 32)
	header := &luks.Header{Size: headerBytes, SeqID: 3, UUID: uuid, Label: "data", Metadata: luks.Metadata{
		Keyslots: map[string]luks.Keyslot{"0": {
			Type: "luks2", KeySize: 64, AF: luks.AF{Type: "luks1", Stripes: 4000, Hash: "sha256"},
			Area: luks.Area{Type: "raw", Offset: 2 * headerBytes, Size: 258048, Encryption: "aes-xts-plain64", KeySize: 64},
			KDF:  luks.KDF{Type: "pbkdf2", Hash: "sha256", Iterations: 1000, Salt: salt},
		}},
		Tokens:   map[string]luks.Token{},
		Segments: map[string]luks.Segment{"0": {Type: "crypt", Offset: dataOffset, Size: "dynamic", Encryption: "aes-xts-plain64", SectorSize: 4096}},
		Digests:  map[string]luks.Digest{"0": {Type: "pbkdf2", Keyslots: []string{"0"}, Segments: []string{"0"}, Hash: "sha256", Iterations: 1000, Salt: salt, Digest: salt}},
		Config:   luks.MetadataConfig{JSONSize: headerBytes - 4096, KeyslotsSize: keyslotsBytes},
	}}
	if token {
		header.Metadata.Tokens["0"] = *goodToken
	}
	return header
}

var goodToken = &luks.Token{Type: luks.TokenType, Keyslots: []string{"0"}, Public: []byte{1}, Private: []byte{2}, Ticket: []byte{3}}

// detached is what cryptsetup leaves in a tmpfs.
func detached(t testing.TB, uuid string) []byte {
	t.Helper()
	copies, err := goodHeader(uuid, false).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(copies, bytes.Repeat([]byte{0x5a}, keyslotsBytes)...)
}

// formatInto does all that formatting writes, with a file system of one sector.
func formatInto(t testing.TB, device *memory, uuid string, token *luks.Token) {
	t.Helper()
	if err := clearLabels(device, int64(len(device.data)), uuid, "data"); err != nil {
		t.Fatal(err)
	}
	if _, err := device.WriteAt(bytes.Repeat([]byte{0x77}, sectorBytes), dataOffset+4096); err != nil {
		t.Fatal(err)
	}
	if err := writeHeader(device, detached(t, uuid), token, uuid, "data"); err != nil {
		t.Fatal(err)
	}
}

func decideOn(t testing.TB, device *memory, disk *config.Disk, key *config.Key) (Action, string, error) {
	t.Helper()
	found, err := look(device, int64(len(device.data)))
	if err != nil {
		t.Fatal(err)
	}
	return decide(disk, key, found)
}

// TestFormattingThatIsCutOffAtAnySector is the promise of the package's description: whatever sector was the last
// one that reached the disk, the next boot formats again, or opens a disk whose header, keyslots and file
// system are whole; and it does not refuse.
func TestFormattingThatIsCutOffAtAnySector(t *testing.T) {
	for _, before := range []string{"empty", "cut off before", "ours, older"} {
		t.Run(before, func(t *testing.T) {
			device := newMemory(testBytes)
			disk := testDisk(config.FormatOnInitialize)
			if before != "empty" {
				formatInto(t, device, uuidA, goodToken)
			}
			if before == "cut off before" {
				copy(device.data, make([]byte, 2*headerBytes))
				copy(device.data[journalSecond:], (&Record{Stage: StageCommitting, Sequence: 4, UUID: uuidA, Name: "data"}).encode())
			}
			if before == "ours, older" {
				disk.Format = config.FormatOnFail
			}
			start := bytes.Clone(device.data)
			device.writes = nil
			formatInto(t, device, uuidB, goodToken)
			whole := device.data
			replay := &memory{data: start}
			counts := map[Action]int{}
			for index, each := range device.writes {
				copy(replay.data[each.offset:], each.sector)
				if index%997 != 0 && index > 40 && index < len(device.writes)-40 {
					continue // the middle is long and alike: keyslots and zeros
				}
				action, why, err := decideOn(t, replay, disk, sealedKey)
				if err != nil {
					t.Fatalf("after %d of %d sectors: %v", index+1, len(device.writes), err)
				}
				counts[action]++
				if action != ActionFormat && !wholeApartFromHeader(replay.data, whole) {
					t.Fatalf("after %d of %d sectors: opened (%s), but not whole", index+1, len(device.writes), why)
				}
			}
			if counts[ActionFormat] == 0 || counts[ActionFinish] == 0 || counts[ActionOpen] == 0 {
				t.Errorf("not all outcomes were seen: %v", counts)
			}
		})
	}
}

// wholeApartFromHeader says that keyslots and data are as they are to be. One copy of the header may be missing.
func wholeApartFromHeader(got, want []byte) bool {
	const slots = 2 * headerBytes
	return bytes.Equal(got[slots:slots+keyslotsBytes], want[slots:slots+keyslotsBytes]) && bytes.Equal(got[dataOffset:], want[dataOffset:])
}

func TestDecide(t *testing.T) {
	empty := func(*memory) {}
	ready := func(token *luks.Token) func(*memory) {
		return func(m *memory) { formatInto(t, m, uuidA, token) }
	}
	then := func(steps ...func(*memory)) func(*memory) {
		return func(m *memory) {
			for _, step := range steps {
				step(m)
			}
		}
	}
	put := func(offset int64, text string) func(*memory) {
		return func(m *memory) { copy(m.data[offset:], text) }
	}
	journal := func(stage Stage, uuid, name string) func(*memory) {
		return func(m *memory) {
			if err := writeJournal(m, stage, uuid, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	clearing, formatting, committing := journal(StageClearing, uuidB, "data"), journal(StageFormatting, uuidB, "data"), journal(StageCommitting, uuidB, "data")
	slots := put(2*headerBytes, strings.Repeat("noise", 9000))
	ext4 := put(superblockPlace+superblockMagic, "\x53\xef")
	secondCopy := func(m *memory) {
		formatInto(t, m, uuidB, goodToken)
		clear(m.data[:headerBytes])
	}
	torn := func(m *memory) { // the first copy got there in part
		formatInto(t, m, uuidB, goodToken)
		clear(m.data[2*sectorBytes : 2*headerBytes])
	}
	noHeader := then(put(0, strings.Repeat("\x00", 4096)), put(headerBytes, strings.Repeat("\x00", 4096)))
	damaged := then(put(5000, "\xff\xff"), put(headerBytes+5000, "\xff\xff"))
	noJournal := then(put(journalFirst, strings.Repeat("\x00", 512)), put(journalSecond, strings.Repeat("\x00", 512)))
	hostile := func(m *memory) {
		header := goodHeader(uuidA, true)
		header.Metadata.Segments["0"] = luks.Segment{Type: "crypt", Offset: dataOffset, Size: "dynamic", Encryption: "cipher_null-ecb", SectorSize: 4096}
		copies, err := header.Encode()
		if err != nil {
			t.Fatal(err)
		}
		copy(m.data, copies)
	}
	const never, always, initialize, onFail = config.FormatNever, config.FormatAlways, config.FormatOnInitialize, config.FormatOnFail
	cases := []struct {
		name    string
		content func(*memory)
		format  string
		key     *config.Key
		action  Action // 0: refused
		say     string
	}{
		{"empty", empty, initialize, sealedKey, ActionFormat, "the device is empty"},
		{"empty", empty, onFail, sealedKey, ActionFormat, "the device is empty"},
		{"empty", empty, never, sealedKey, 0, "never to format"},
		{"empty", empty, always, pipeKey, ActionFormat, "on each boot"},
		{"ready", ready(goodToken), initialize, sealedKey, ActionOpen, ""},
		{"ready", ready(goodToken), onFail, sealedKey, ActionOpen, ""},
		{"ready", ready(goodToken), never, sealedKey, ActionOpen, ""},
		{"ready", ready(goodToken), always, sealedKey, ActionFormat, "on each boot"},
		{"ready, key from elsewhere", ready(nil), initialize, pipeKey, ActionOpen, ""},
		{"token that nobody asked for", ready(goodToken), initialize, pipeKey, 0, "nothing of a sealed key"},
		{"token is gone", ready(nil), initialize, sealedKey, 0, "no sealed key in its header"},
		{"token is gone", ready(nil), onFail, sealedKey, 0, "no sealed key in its header"},
		{"made elsewhere, no journal", then(ready(nil), noJournal), never, pipeKey, ActionOpen, ""},
		{"made elsewhere, no journal", then(ready(nil), noJournal), initialize, pipeKey, ActionOpen, ""},
		{"hostile header", then(ready(goodToken), hostile), initialize, sealedKey, 0, "null cipher"},
		{"hostile header", then(ready(goodToken), hostile), onFail, sealedKey, 0, "null cipher"},
		{"hostile header", then(ready(goodToken), hostile), never, sealedKey, 0, "null cipher"},
		{"hostile header, no journal", hostile, onFail, sealedKey, 0, "null cipher"},
		{"header is gone", then(ready(goodToken), noHeader), initialize, sealedKey, 0, "was encrypted before"},
		{"header is gone", then(ready(goodToken), noHeader), onFail, sealedKey, ActionFormat, "format on failure"},
		{"header is gone", then(ready(goodToken), noHeader), never, sealedKey, 0, "was encrypted before"},
		{"header is damaged", then(ready(goodToken), damaged), initialize, sealedKey, 0, "both copies"},
		{"header is damaged", then(ready(goodToken), damaged), onFail, sealedKey, ActionFormat, "both copies"},
		{"header is damaged, no journal", then(ready(goodToken), noJournal, damaged), onFail, sealedKey, 0, "both copies"},
		{"header is damaged, no journal", then(ready(goodToken), noJournal, damaged), initialize, sealedKey, 0, "both copies"},
		{"ext4 over ours", then(ready(goodToken), noHeader, ext4), onFail, sealedKey, 0, "something else was written to it since (byte 1080"},
		{"ext4 over ours", then(ready(goodToken), noHeader, ext4), initialize, sealedKey, 0, "something else was written"},
		{"partitions over ours", then(ready(goodToken), noHeader, put(510, "\x55\xaaEFI PART")), onFail, sealedKey, 0, "something else was written"},
		{"cut off while clearing ours", then(ready(goodToken), clearing), onFail, sealedKey, ActionFormat, "stopped while formatting"},
		{"cut off while clearing ours", then(ready(goodToken), clearing), initialize, sealedKey, 0, "something else was written"},
		{"cut off while clearing ours", then(ready(goodToken), clearing), always, sealedKey, ActionFormat, "on each boot"},
		{"cut off while clearing parts", then(slots, clearing), initialize, sealedKey, ActionFormat, "stopped while formatting"},
		{"cut off while clearing, ext4 since", then(clearing, ext4), initialize, sealedKey, 0, "something else was written"},
		{"cut off while clearing, ext4 since", then(clearing, ext4), onFail, sealedKey, 0, "something else was written"},
		{"cut off while clearing, hostile header", then(ready(goodToken), hostile, clearing), onFail, sealedKey, 0, "null cipher"},
		{"cut off before the header", formatting, initialize, sealedKey, ActionFormat, "stopped while formatting"},
		{"cut off before the header", formatting, onFail, sealedKey, ActionFormat, "stopped while formatting"},
		{"cut off before the header", formatting, never, sealedKey, 0, "formatting of the disk was cut off"},
		{"cut off before the header, data", then(formatting, put(dataOffset+4096, "noise")), initialize, sealedKey, ActionFormat, "stopped while formatting"},
		{"cut off before the header, ext4 since", then(formatting, ext4), initialize, sealedKey, 0, "something else was written to it since (byte 1080"},
		{"cut off before the header, ext4 since", then(formatting, ext4), onFail, sealedKey, 0, "something else was written"},
		{"cut off before the header, ext4 since", then(formatting, ext4), never, sealedKey, 0, "something else was written"},
		{"cut off before the header, ext4 since", then(formatting, ext4), always, sealedKey, ActionFormat, "on each boot"},
		{"cut off before the header, btrfs since", then(formatting, put(0x10040, "_BHRfS_M")), initialize, sealedKey, 0, "something else was written"},
		{"cut off before the header, LUKS2 since", then(ready(nil), formatting), initialize, pipeKey, 0, "something else was written"},
		{"cut off before the header, LUKS2 since", then(ready(nil), formatting), onFail, pipeKey, 0, "something else was written"},
		{"cut off in the keyslots", then(slots, committing), initialize, sealedKey, ActionFormat, "stopped while formatting"},
		{"cut off in the first copy of the header", then(torn, committing), initialize, sealedKey, ActionFormat, "stopped while formatting"},
		{"cut off between the copies of the header", then(secondCopy, committing), initialize, sealedKey, ActionFinish, ""},
		{"cut off in the keyslots, ext4 since", then(slots, committing, ext4), initialize, sealedKey, 0, "something else was written"},
		{"cut off in the keyslots, LUKS2 since", then(ready(nil), committing), onFail, pipeKey, 0, "something else was written"},
		{"cut off after the header", then(ready(goodToken), journal(StageCommitting, uuidA, "data")), initialize, sealedKey, ActionFinish, ""},
		{"cut off after the header", then(ready(goodToken), journal(StageCommitting, uuidA, "data")), never, sealedKey, ActionFinish, ""},
		{"another disk of ours", then(ready(goodToken), journal(StageFormatting, uuidB, "logs")), initialize, sealedKey, 0, `as the disk "logs"`},
		{"another disk of ours", then(ready(goodToken), journal(StageFormatting, uuidB, "logs")), always, sealedKey, 0, `as the disk "logs"`},
		{"foreign, at the start", put(1080, "\x53\xef"), initialize, sealedKey, 0, "byte 1080 is not zero"},
		{"foreign, at the start", put(1080, "\x53\xef"), onFail, sealedKey, 0, "byte 1080 is not zero"},
		{"foreign, at the start", put(1080, "\x53\xef"), never, sealedKey, 0, "byte 1080 is not zero"},
		{"foreign, named, always", put(1080, "\x53\xef"), always, pipeKey, ActionFormat, "on each boot"},
		{"foreign, at the end", put(testBytes-512, "EFI PART"), initialize, sealedKey, 0, "is not zero"},
		{"foreign, last byte", put(testBytes-1, "x"), initialize, sealedKey, 0, "is not zero"},
		{"foreign, in the middle", put(testBytes/2, strings.Repeat("x", 1<<18)), initialize, sealedKey, 0, "is not zero"},
		{"torn journal", put(journalFirst, "TDXGUEST\x00\x00"), initialize, sealedKey, 0, "is not zero"},
	}
	for _, c := range cases {
		t.Run(c.name+"/"+c.format, func(t *testing.T) {
			device := newMemory(testBytes)
			c.content(device)
			action, why, err := decideOn(t, device, testDisk(c.format), c.key)
			said := why + fmt.Sprint(err)
			if action != c.action || (c.action == 0) != (err != nil) || !strings.Contains(said, c.say) {
				t.Errorf("got action %d (%s), want %d with %q", action, said, c.action, c.say)
			}
		})
	}
}

// TestAMovedTokenNamesTheKeyslotOfItsNewHeader is for a disk that is formatted anew with the sealed key that its old header
// had, for whatever keyslot.
func TestAMovedTokenNamesTheKeyslotOfItsNewHeader(t *testing.T) {
	for _, slot := range []string{"0", "1", "7"} {
		device, token := newMemory(testBytes), *goodToken
		token.Keyslots = []string{slot}
		formatInto(t, device, uuidA, &token)
		header, err := luks.Read(device)
		if err != nil || !slices.Equal(header.Token().Keyslots, []string{"0"}) || !header.Token().Equal(goodToken) {
			t.Errorf("keyslot %s: %+v, %v", slot, header, err)
		}
		if token.Keyslots[0] != slot {
			t.Error("the token of the plan was changed")
		}
	}
}

func TestWhichDisksAreOurs(t *testing.T) {
	ready := func(m *memory) { formatInto(t, m, uuidA, goodToken) }
	wiped := func(m *memory) { clear(m.data[:2*headerBytes]) }
	noJournal := func(m *memory) { clear(m.data[journalFirst : journalSecond+sectorBytes]) }
	ext4 := func(m *memory) { copy(m.data[superblockPlace+superblockMagic:], "\x53\xef") }
	begun := func(m *memory) {
		if err := writeJournal(m, StageFormatting, uuidA, "data"); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name, disk string
		steps      []func(*memory)
		ours       bool
		empty      bool
	}{
		{"empty", "data", nil, false, true},
		{"formatted", "data", []func(*memory){ready}, true, false},
		{"made elsewhere", "data", []func(*memory){ready, noJournal}, false, false},
		{"another one", "logs", []func(*memory){ready}, false, false},
		{"without its header", "data", []func(*memory){ready, wiped}, true, false},
		{"with ext4 over its header", "data", []func(*memory){ready, wiped, ext4}, false, false},
		{"cut off", "data", []func(*memory){begun}, true, false},
		{"cut off, with ext4 since", "data", []func(*memory){begun, ext4}, false, false},
	}
	for _, c := range cases {
		device := newMemory(testBytes)
		for _, step := range c.steps {
			step(device)
		}
		found, err := look(device, testBytes)
		if err != nil {
			t.Fatal(err)
		}
		if headed := c.name == "formatted" || c.name == "another one"; found.ours() != headed {
			t.Errorf("%s: header of ours: %v", c.name, found.ours())
		}
		got := candidateOf("/dev/vdb", c.disk, found)
		if want := (candidate{path: "/dev/vdb", size: testBytes, ours: c.ours, empty: c.empty}); got != want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, want)
		}
	}
}

func TestASmallDeviceIsRefused(t *testing.T) {
	_, _, err := decide(testDisk(config.FormatAlways), pipeKey, &content{size: minDeviceBytes - 1, firstByte: -1})
	if err == nil || !strings.Contains(err.Error(), "are needed") {
		t.Errorf("got %v", err)
	}
}

func TestUnreadableDevicesAreNotFormatted(t *testing.T) {
	for _, record := range []*Record{nil, {Stage: StageReady, Name: "data"}, {Stage: StageFormatting, Name: "data"}, {Stage: StageClearing, Name: "data"}} {
		found := &content{size: testBytes, firstByte: -1, record: record, headerErr: errors.New("input/output error")}
		for _, format := range []string{config.FormatOnInitialize, config.FormatOnFail, config.FormatNever} {
			if action, _, err := decide(testDisk(format), pipeKey, found); err == nil || !strings.Contains(err.Error(), "cannot be read") {
				t.Errorf("%s, %v: action %d, %v", format, record, action, err)
			}
		}
	}
}

func TestJournal(t *testing.T) {
	device := newMemory(testBytes)
	if record, err := readJournal(device); record != nil || err != nil {
		t.Fatalf("got %v %v", record, err)
	}
	for index, stage := range []Stage{StageFormatting, StageReady, StageClearing, StageCommitting} {
		if err := writeJournal(device, stage, uuidA, "data"); err != nil {
			t.Fatal(err)
		}
		record, err := readJournal(device)
		want := Record{Stage: stage, Sequence: uint64(index + 1), UUID: uuidA, Name: "data"}
		if err != nil || *record != want {
			t.Fatalf("got %v %v, want %v", record, err, want)
		}
	}
	for offset := int64(journalSecond); offset < journalSecond+sectorBytes; offset++ { // any byte of the latest is changed: the one before counts
		device.data[offset] ^= 1
		if record, err := readJournal(device); err != nil || record.Sequence != 3 || record.Stage != StageClearing {
			t.Fatalf("byte %d: got %v %v", offset, record, err)
		}
		device.data[offset] ^= 1
	}
}

func TestPick(t *testing.T) {
	cases := []struct {
		name       string
		candidates []candidate
		want, say  string
	}{
		{"none", nil, "", "the machine has no disk"},
		{"one empty", []candidate{{path: "/dev/vda", size: 9}, {path: "/dev/vdb", size: 5, empty: true}}, "/dev/vdb", ""},
		{"largest empty", []candidate{{path: "/dev/vda", size: 5, empty: true}, {path: "/dev/vdb", size: 9, empty: true}, {path: "/dev/vdc", size: 7, empty: true}}, "/dev/vdb", ""},
		{"a larger one that is used", []candidate{{path: "/dev/vda", size: 99}, {path: "/dev/vdb", size: 9, empty: true}}, "/dev/vdb", ""},
		{"ours, and a larger empty one", []candidate{{path: "/dev/vda", size: 99, empty: true}, {path: "/dev/vdb", size: 9, ours: true}}, "/dev/vdb", ""},
		{"two of ours", []candidate{{path: "/dev/vda", size: 9, ours: true}, {path: "/dev/vdb", size: 9, ours: true}}, "", "several disks say"},
		{"two of one size", []candidate{{path: "/dev/vda", size: 9, empty: true}, {path: "/dev/vdb", size: 9, empty: true}}, "", "of the same size"},
		{"only foreign ones", []candidate{{path: "/dev/vda", size: 9}}, "", "/dev/vda (9 bytes) holds something else"},
		{"one in use", []candidate{{path: "/dev/vda", unfit: "the device /dev/vda is in use"}}, "", "the device /dev/vda is in use"},
		{"one in use, one empty", []candidate{{path: "/dev/vda", unfit: "the device /dev/vda is in use"}, {path: "/dev/vdb", size: 5, empty: true}}, "/dev/vdb", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := pick(c.candidates)
			if got != c.want || c.say != "" && !strings.Contains(fmt.Sprint(err), c.say) {
				t.Errorf("got %q %v", got, err)
			}
		})
	}
}

func table(kind, words string, count uint32) []byte {
	buffer := make([]byte, mapperBuffer)
	binary.NativeEndian.PutUint32(buffer[fieldDataStart:], mapperHeader)
	binary.NativeEndian.PutUint32(buffer[fieldTargetCount:], count)
	copy(buffer[mapperHeader+specType:], kind)
	copy(buffer[mapperHeader+mapperSpec:], words)
	return buffer
}

func TestMappingsThatAreNotWhatWasAskedFor(t *testing.T) {
	want := expectedOf(testDisk(config.FormatNever), testBytes)
	withHMAC := want
	withHMAC.HMAC = true
	const keyring = ":64:logon:cryptsetup:uuid-d0"
	cases := []struct {
		name, kind, words string
		count             uint32
		hmac, right       bool
	}{
		{"keyring", "crypt", "aes-xts-plain64 " + keyring + " 0 254:16 32768 1 sector_size:4096", 1, false, true},
		{"key in the table", "crypt", "aes-xts-plain64 " + strings.Repeat("ab", 64) + " 0 254:16 32768 1 sector_size:4096", 1, false, true},
		{"null cipher", "crypt", "cipher_null-ecb - 0 254:16 32768 1 sector_size:4096", 1, false, false},
		{"linear", "linear", "254:16 32768", 1, false, false},
		{"short key", "crypt", "aes-xts-plain64 :32:logon:x 0 254:16 32768 1 sector_size:4096", 1, false, false},
		{"another device", "crypt", "aes-xts-plain64 " + keyring + " 0 254:32 32768 1 sector_size:4096", 1, false, false},
		{"another place", "crypt", "aes-xts-plain64 " + keyring + " 0 254:16 0 1 sector_size:4096", 1, false, false},
		{"tweak", "crypt", "aes-xts-plain64 " + keyring + " 8 254:16 32768 1 sector_size:4096", 1, false, false},
		{"discards", "crypt", "aes-xts-plain64 " + keyring + " 0 254:16 32768 2 allow_discards sector_size:4096", 1, false, false},
		{"two parts", "crypt", "aes-xts-plain64 " + keyring + " 0 254:16 32768 1 sector_size:4096", 2, false, false},
		{"HMAC", "crypt", "capi:authenc(hmac(sha256),xts(aes))-plain64 :96:logon:x 0 254:16 0 2 integrity:32:aead sector_size:4096", 1, true, true},
		{"HMAC is missing", "crypt", "aes-xts-plain64 " + keyring + " 0 254:16 32768 1 sector_size:4096", 1, true, false},
		{"tag of 4 bytes", "crypt", "capi:authenc(hmac(sha256),xts(aes))-plain64 :96:logon:x 0 254:16 0 2 integrity:4:aead sector_size:4096", 1, true, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			found, err := decodeTarget(table(c.kind, c.words, c.count))
			if err == nil {
				expected := want
				if c.hmac {
					expected = withHMAC
				}
				err = checkTarget(found, "254:16", dataOffset, expected)
			}
			if (err == nil) != c.right {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "abab") {
				t.Error("the key is in the message")
			}
		})
	}
}

func TestMappingsOfIntegrity(t *testing.T) {
	for words, right := range map[string]bool{
		"254:16 32768 32 J 7 block_size:4096 journal_sectors:1056": true,
		"254:16 32768 32 D 1 block_size:4096":                      false,
		"254:16 32768 4 J 0":                                       false,
		"254:16 0 32 J 0":                                          false,
		"254:32 32768 32 J 0":                                      false,
		"254:16":                                                   false,
	} {
		found, err := decodeTarget(table("integrity", words, 1))
		if err == nil {
			err = checkIntegrityTarget(found, "254:16", dataOffset)
		}
		if (err == nil) != right {
			t.Errorf("%s: got %v", words, err)
		}
	}
}

func TestExt4Bytes(t *testing.T) {
	block := make([]byte, 2048)
	set := func(offset int, value uint32) { binary.LittleEndian.PutUint32(block[1024+offset:], value) }
	if _, err := ext4Bytes(bytes.NewReader(block)); err == nil {
		t.Error("zeros have a size")
	}
	set(0x38, 0xEF53)
	set(0x4, 1000)
	set(0x18, 2)
	set(0x150, 1) // counts only with the feature "64bit"
	if got, err := ext4Bytes(bytes.NewReader(block)); err != nil || got != 1000*4096 {
		t.Errorf("got %d %v", got, err)
	}
	set(0x60, 0x80)
	if got, err := ext4Bytes(bytes.NewReader(block)); err != nil || got != (1<<32+1000)*4096 {
		t.Errorf("got %d %v", got, err)
	}
	set(0x18, 60)
	if _, err := ext4Bytes(bytes.NewReader(block)); err == nil {
		t.Error("blocks of 2^60 KiB")
	}
}

func TestMounted(t *testing.T) {
	const info = "29 1 0:26 / / rw - tmpfs tmpfs rw\n30 29 254:1 / /data rw,nosuid shared:5 - ext4 /dev/mapper/data rw\nx\n" +
		"31 29 254:2 / /my\\040data\\134040\\043\u00a0é rw - ext4 /dev/mapper/b rw\n"
	for dir, want := range map[string]string{"/data": "/dev/mapper/data", "/": "tmpfs", "/dat": "", "/my data\\040#\u00a0é": "/dev/mapper/b", "/my": ""} {
		if got := mounted(info, dir); got != want {
			t.Errorf("%s: got %q, want %q", dir, got, want)
		}
	}
}

func TestUUIDsAreRandomAndWellFormed(t *testing.T) {
	a, err := newUUID()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newUUID()
	if err != nil || a == b || len(a) != 36 || a[14] != '4' {
		t.Errorf("%s %s %v", a, b, err)
	}
}

// sparse is a device of zeros with something at the start and in the place of the journal.
type sparse struct {
	size         int64
	head, record []byte
}

func (s sparse) ReadAt(into []byte, offset int64) (int, error) {
	if offset >= s.size {
		return 0, io.EOF
	}
	clear(into)
	for begin, part := range map[int64][]byte{0: s.head, journalFirst: s.record} {
		for index, char := range part {
			if at := begin + int64(index) - offset; at >= 0 && at < int64(len(into)) {
				into[at] = char
			}
		}
	}
	if rest := s.size - offset; rest < int64(len(into)) {
		return int(rest), io.EOF
	}
	return len(into), nil
}

// FuzzLook holds that whatever a host writes to a disk, reading it neither fails nor takes long.
func FuzzLook(f *testing.F) {
	f.Add([]byte("TDXGUEST"), []byte("LUKS\xba\xbe\x00\x02"))
	for stage := StageFormatting; stage <= StageCommitting; stage++ {
		f.Add((&Record{Stage: stage, Sequence: 2, UUID: uuidA, Name: "data"}).encode(), []byte{})
		f.Add((&Record{Stage: stage, Sequence: 2, UUID: uuidA, Name: "data"}).encode(), append(make([]byte, superblockPlace+superblockMagic), 0x53, 0xef))
		f.Add((&Record{Stage: stage, Sequence: 2, UUID: uuidA, Name: "data"}).encode(), []byte("LUKS\xba\xbe\x00\x02"))
	}
	f.Fuzz(func(t *testing.T, record, head []byte) {
		device := sparse{size: testBytes, head: head[:min(len(head), 64<<10)], record: record[:min(len(record), sectorBytes)]}
		found, err := look(device, device.size)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{config.FormatOnInitialize, config.FormatOnFail, config.FormatNever} {
			action, _, err := decide(testDisk(format), sealedKey, found)
			if (action == 0) != (err != nil) {
				t.Errorf("action %d and %v", action, err)
			}
			if action != ActionFormat {
				continue
			}
			if found.firstByte >= 0 && found.record == nil {
				t.Errorf("%s: formats what is not empty and not ours", format)
			}
			if found.record != nil && found.record.Stage == StageFormatting && found.firstByte < journalFirst && found.header == nil {
				t.Errorf("%s: formats what was not there when formatting was cut off", format)
			}
			if !isPartOfHeader(append(bytes.Clone(device.head), make([]byte, sampleBytes)...)[:sampleBytes]) {
				t.Errorf("%s: formats a disk that begins with something else", format)
			}
		}
	})
}
