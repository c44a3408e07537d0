package luks

import (
	"fmt"
	"slices"
	"strings"
)

// Bounds of the allow-list. A KDF is what a hostile header could keep us busy with, so its costs are bounded
// too; cryptsetup itself stops at 4 GiB and asks for 1000 iterations at least.
const (
	alignment        = 4096
	stripes          = 4000
	maxSlots         = 8
	minIterations    = 1000
	maxIterations    = 10_000_000
	maxArgonMemory   = 1 << 20 // KiB
	maxArgonTime     = 64
	maxArgonCPUs     = 4
	cipherXTS        = "aes-xts-plain64"
	integrityHMAC    = "hmac(sha256)"
	integrityKeySize = 32
)

var hashes = []string{"sha256", "sha512"}

// Expected is what the configuration says about a disk.
type Expected struct {
	Cipher      string
	KeyBits     int
	SectorBytes int
	// HMAC asks for integrity by HMAC-SHA-256; a header without is then a downgrade, and one with it is refused else.
	HMAC bool
	// DeviceBytes is the size of the device that the header is on.
	DeviceBytes int64
	// Tokens says whether a sealed key belongs into the header.
	Tokens bool
}

// VolumeKeyBytes is the length of the volume key.
func (e Expected) VolumeKeyBytes() int {
	size := e.KeyBits / 8
	if e.HMAC {
		size += integrityKeySize
	}
	return size
}

// checkStructure is what must hold of any header that we take: one segment, one digest, keyslots inside of
// their area, and nothing null.
func (h *Header) checkStructure() error {
	meta := &h.Metadata
	if int64(meta.Config.JSONSize) != h.Size-binaryBytes {
		return refuse("json_size is %d in a copy of %d bytes", meta.Config.JSONSize, h.Size)
	}
	if size := meta.Config.KeyslotsSize; size == 0 || size > maxKeyslots || size%alignment != 0 {
		return refuse("keyslots_size is %d, and must be a multiple of %d up to %d", size, alignment, maxKeyslots)
	}
	if err := only("segments", meta.Segments); err != nil {
		return err
	}
	if err := only("digests", meta.Digests); err != nil {
		return err
	}
	if err := h.checkKeyslots(); err != nil {
		return err
	}
	if err := h.checkDigest(); err != nil {
		return err
	}
	if err := h.checkTokens(); err != nil {
		return err
	}
	return h.checkSegment()
}

// only refuses all but exactly one entry with the number 0.
func only[V any](what string, entries map[string]V) error {
	if _, has := entries["0"]; !has || len(entries) != 1 {
		return refuse("%s are %v, and exactly one, with the number 0, is taken", what, sortedKeys(entries))
	}
	return nil
}

func (h *Header) checkKeyslots() error {
	slots := h.Metadata.Keyslots
	if len(slots) == 0 || len(slots) > maxSlots {
		return refuse("it has %d keyslots, and 1 to %d are taken", len(slots), maxSlots)
	}
	taken := map[string][2]uint64{}
	for _, number := range sortedKeys(slots) {
		slot := slots[number]
		if len(number) != 1 || number[0] < '0' || number[0] > '9' {
			return refuse("a keyslot has the number %q", number)
		}
		if err := slot.check(); err != nil {
			return refuse("keyslot %s: %w", number, err)
		}
		begin, size := uint64(slot.Area.Offset), uint64(slot.Area.Size)
		if begin < uint64(2*h.Size) || begin%alignment != 0 || size%alignment != 0 || size > maxKeyslots || begin+size > uint64(h.Bytes()) {
			return refuse("keyslot %s: its area (byte %d, %d bytes) is not inside of the area of the keyslots", number, begin, size)
		}
		for other, bounds := range taken {
			if begin < bounds[1] && bounds[0] < begin+size {
				return refuse("keyslots %s and %s overlap", other, number)
			}
		}
		taken[number] = [2]uint64{begin, begin + size}
	}
	return nil
}

func (s *Keyslot) check() error {
	switch {
	case s.Type != "luks2":
		return fmt.Errorf("its type is %q, and only luks2 is taken", s.Type)
	case s.KeySize < 16 || s.KeySize > 128:
		return fmt.Errorf("its key has %d bytes", s.KeySize)
	case s.AF.Type != "luks1" || s.AF.Stripes != stripes || !slices.Contains(hashes, s.AF.Hash):
		return fmt.Errorf("its splitter is %q with %d stripes of %q", s.AF.Type, s.AF.Stripes, s.AF.Hash)
	case s.Area.Type != "raw":
		return fmt.Errorf("its area is %q, and only raw is taken", s.Area.Type)
	case s.Area.Encryption != cipherXTS || s.Area.KeySize != 32 && s.Area.KeySize != 64:
		return fmt.Errorf("it is encrypted with %q (key of %d bytes), and only %s with 32 or 64 bytes is taken", s.Area.Encryption, s.Area.KeySize, cipherXTS)
	case uint64(s.Area.Size) < uint64(s.KeySize*stripes):
		return fmt.Errorf("its area has %d bytes, too few for %d", s.Area.Size, s.KeySize*stripes)
	case s.Priority != nil && (*s.Priority < 0 || *s.Priority > 2):
		return fmt.Errorf("its priority is %d", *s.Priority)
	}
	return s.KDF.check()
}

func (k *KDF) check() error {
	if len(k.Salt) < 16 || len(k.Salt) > 64 {
		return fmt.Errorf("its salt has %d bytes", len(k.Salt))
	}
	switch k.Type {
	case "pbkdf2":
		if !slices.Contains(hashes, k.Hash) || k.Iterations < minIterations || k.Iterations > maxIterations || k.Time != 0 || k.Memory != 0 || k.CPUs != 0 {
			return fmt.Errorf("pbkdf2 with %d iterations of %q", k.Iterations, k.Hash)
		}
	case "argon2id", "argon2i":
		if k.Hash != "" || k.Iterations != 0 || k.Time < 1 || k.Time > maxArgonTime || k.Memory < 32 || k.Memory > maxArgonMemory || k.CPUs < 1 || k.CPUs > maxArgonCPUs {
			return fmt.Errorf("%s with time %d, memory %d KiB, %d cpus", k.Type, k.Time, k.Memory, k.CPUs)
		}
	default:
		return fmt.Errorf("its KDF is %q, and only pbkdf2, argon2i and argon2id are taken", k.Type)
	}
	return nil
}

func (h *Header) checkDigest() error {
	digest := h.Metadata.Digests["0"]
	bound := slices.Sorted(slices.Values(digest.Keyslots))
	switch {
	case digest.Type != "pbkdf2" || !slices.Contains(hashes, digest.Hash):
		return refuse("its digest is %q of %q", digest.Type, digest.Hash)
	case digest.Iterations < minIterations || digest.Iterations > maxIterations:
		return refuse("its digest has %d iterations", digest.Iterations)
	case len(digest.Salt) < 16 || len(digest.Salt) > 64 || len(digest.Digest) < 20 || len(digest.Digest) > 64:
		return refuse("its digest has a salt of %d and a value of %d bytes", len(digest.Salt), len(digest.Digest))
	case !slices.Equal(digest.Segments, []string{"0"}):
		return refuse("its digest is that of the segments %v, and must be that of segment 0", digest.Segments)
	case !slices.Equal(bound, sortedKeys(h.Metadata.Keyslots)):
		return refuse("its digest is that of the keyslots %v, and there are %v", digest.Keyslots, sortedKeys(h.Metadata.Keyslots))
	}
	return nil
}

func (h *Header) checkTokens() error {
	if len(h.Metadata.Tokens) > 1 {
		return refuse("it has %d tokens, and at most one is taken", len(h.Metadata.Tokens))
	}
	for number, token := range h.Metadata.Tokens {
		switch {
		case number != "0":
			return refuse("a token has the number %q", number)
		case token.Type != TokenType:
			return refuse("it has a token of type %q, and only %s is taken", token.Type, TokenType)
		case len(token.Keyslots) != 1:
			return refuse("its token is for the keyslots %v, and must be for one", token.Keyslots)
		case len(token.Public) > 1024 || len(token.Private) > 1024 || len(token.Ticket) > 1024 || len(token.Values) > 24:
			return refuse("its token is longer than a sealed key can be")
		}
		if _, has := h.Metadata.Keyslots[token.Keyslots[0]]; !has {
			return refuse("its token is for keyslot %q, which is not there", token.Keyslots[0])
		}
	}
	return nil
}

func (h *Header) checkSegment() error {
	segment := h.Metadata.Segments["0"]
	switch {
	case segment.Type != "crypt":
		return refuse("segment 0 is %q, and only crypt is taken: it would be read and written without encryption", segment.Type)
	case strings.Contains(segment.Encryption, "null"):
		return refuse("segment 0 is encrypted with the null cipher (%q): it would be read and written in plain text", segment.Encryption)
	case segment.Size != "dynamic":
		return refuse("segment 0 has the size %q, and must be dynamic", segment.Size)
	case segment.IVTweak != 0:
		return refuse("segment 0 has the iv_tweak %d, and must have 0", segment.IVTweak)
	case segment.Offset%alignment != 0 || int64(segment.Offset) < h.Bytes():
		return refuse("segment 0 begins at byte %d, inside of the header or not at a multiple of %d", segment.Offset, alignment)
	}
	return nil
}

// Check holds the header against what the configuration says about the disk.
func (h *Header) Check(expected Expected) error {
	segment := h.Metadata.Segments["0"]
	switch {
	case segment.Encryption != expected.Cipher:
		return refuse("segment 0 is encrypted with %q, and the configuration says %q", segment.Encryption, expected.Cipher)
	case segment.SectorSize != expected.SectorBytes:
		return refuse("segment 0 has sectors of %d bytes, and the configuration says %d", segment.SectorSize, expected.SectorBytes)
	case expected.HMAC && segment.Integrity == nil:
		return refuse("segment 0 has no integrity, and the configuration says hmac-sha256: it was downgraded")
	case !expected.HMAC && segment.Integrity != nil:
		return refuse("segment 0 has the integrity %q, and the configuration says none", segment.Integrity.Type)
	case expected.HMAC && *segment.Integrity != Integrity{integrityHMAC, "none", "none"}:
		return refuse("segment 0 has the integrity %q (journal %q, %q), and the configuration says %s", segment.Integrity.Type,
			segment.Integrity.JournalEncryption, segment.Integrity.JournalIntegrity, integrityHMAC)
	case int64(segment.Offset) >= expected.DeviceBytes:
		return refuse("segment 0 begins at byte %d, and the device has %d", segment.Offset, expected.DeviceBytes)
	case !expected.Tokens && len(h.Metadata.Tokens) > 0:
		return refuse("it has a token, and the configuration says nothing of a sealed key")
	}
	for _, number := range sortedKeys(h.Metadata.Keyslots) {
		if size := h.Metadata.Keyslots[number].KeySize; size != expected.VolumeKeyBytes() {
			return refuse("keyslot %s holds a key of %d bytes, and the configuration says %d", number, size, expected.VolumeKeyBytes())
		}
	}
	return nil
}
