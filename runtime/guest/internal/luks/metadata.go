package luks

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
)

// Number is a number that the metadata writes as a string, because JSON has no 64 bits.
type Number uint64

// UnmarshalText takes decimal digits without a sign and without leading zeros.
func (n *Number) UnmarshalText(digits []byte) error {
	value, err := strconv.ParseUint(string(digits), 10, 63)
	if err != nil || strconv.FormatUint(value, 10) != string(digits) {
		return fmt.Errorf("%q is not a number", digits)
	}
	*n = Number(value)
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (n Number) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(n), 10), nil }

// Metadata is the JSON area: only what is allowed in it has a field here.
type Metadata struct {
	Keyslots map[string]Keyslot `json:"keyslots"`
	Tokens   map[string]Token   `json:"tokens"`
	Segments map[string]Segment `json:"segments"`
	Digests  map[string]Digest  `json:"digests"`
	Config   MetadataConfig     `json:"config"`
}

// Keyslot holds the volume key, encrypted with what is derived from the key of ours.
type Keyslot struct {
	Type     string `json:"type"`
	KeySize  int    `json:"key_size"`
	AF       AF     `json:"af"`
	Area     Area   `json:"area"`
	KDF      KDF    `json:"kdf"`
	Priority *int   `json:"priority,omitempty"`
}

// AF is the anti-forensic splitter.
type AF struct {
	Type    string `json:"type"`
	Stripes int    `json:"stripes"`
	Hash    string `json:"hash"`
}

// Area is where a keyslot lies, in bytes from the start of the device.
type Area struct {
	Type       string `json:"type"`
	Offset     Number `json:"offset"`
	Size       Number `json:"size"`
	Encryption string `json:"encryption"`
	KeySize    int    `json:"key_size"`
}

// KDF makes the key of a keyslot's area. Iterations belong to pbkdf2, time, memory (KiB) and cpus to argon2.
type KDF struct {
	Type       string `json:"type"`
	Hash       string `json:"hash,omitempty"`
	Iterations int    `json:"iterations,omitempty"`
	Time       int    `json:"time,omitempty"`
	Memory     int    `json:"memory,omitempty"`
	CPUs       int    `json:"cpus,omitempty"`
	Salt       []byte `json:"salt"`
}

// Segment is the encrypted part of the device. Size is "dynamic": up to its end.
type Segment struct {
	Type       string     `json:"type"`
	Offset     Number     `json:"offset"`
	Size       string     `json:"size"`
	IVTweak    Number     `json:"iv_tweak"`
	Encryption string     `json:"encryption"`
	SectorSize int        `json:"sector_size"`
	Integrity  *Integrity `json:"integrity,omitempty"`
}

// Integrity says what authenticates the sectors.
type Integrity struct {
	Type              string `json:"type"`
	JournalEncryption string `json:"journal_encryption"`
	JournalIntegrity  string `json:"journal_integrity"`
}

// Digest says whether a volume key is the right one.
type Digest struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations int      `json:"iterations"`
	Salt       []byte   `json:"salt"`
	Digest     []byte   `json:"digest"`
}

// MetadataConfig is the rest. Flags and requirements are not taken: they change how a disk is opened.
type MetadataConfig struct {
	JSONSize     Number `json:"json_size"`
	KeyslotsSize Number `json:"keyslots_size"`
}

// TokenType is the type of the one token that a header may have.
const TokenType = "tdx-guest-sealed-key"

// Token is the sealed form of the key. All of it is public, and none of it is trusted: the TPM checks the objects.
type Token struct {
	Type     string   `json:"type"`
	Keyslots []string `json:"keyslots"`
	// The rest is tpm.Sealed.
	Public  []byte   `json:"public"`
	Private []byte   `json:"private"`
	Ticket  []byte   `json:"ticket"`
	Values  [][]byte `json:"values"`
}

// Equal says whether both are the same sealed key.
func (t *Token) Equal(other *Token) bool {
	return bytes.Equal(t.Public, other.Public) && bytes.Equal(t.Private, other.Private) && bytes.Equal(t.Ticket, other.Ticket)
}

// Token returns the token, or nil.
func (h *Header) Token() *Token {
	for _, token := range h.Metadata.Tokens {
		return &token
	}
	return nil
}

// DataOffset is where the encrypted part begins.
func (h *Header) DataOffset() int64 { return int64(h.Metadata.Segments["0"].Offset) }

// Bytes is the length of both copies and the keyslots.
func (h *Header) Bytes() int64 { return 2*h.Size + int64(h.Metadata.Config.KeyslotsSize) }

func sortedKeys[V any](from map[string]V) []string {
	keys := make([]string, 0, len(from))
	for key := range from {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
