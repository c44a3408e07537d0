package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/disk"
	"tdxvm/guest/internal/logging"
	"tdxvm/guest/internal/luks"
	"tdxvm/guest/internal/tpm"
	"tdxvm/guest/internal/tpmtest"
)

// machine is a TPM and disks that outlive its boots. A disk without a token is empty.
type machine struct {
	t      *testing.T
	tpm    *tpmtest.Machine
	tokens map[string]*luks.Token
	up     map[string]bool
	log    bytes.Buffer
	*disk.System
	sealed *luks.Token
}

func (m *machine) IsUp(of *config.Disk) (bool, error) { return m.up[of.Name], nil }

func (m *machine) Inspect(_ context.Context, of *config.Disk, _ *config.Key) (*disk.Plan, error) {
	token := m.tokens[of.Name]
	if token == nil {
		return &disk.Plan{Device: "/dev/" + of.Name, Action: disk.ActionFormat, Why: "the device is empty"}, nil
	}
	header := &luks.Header{Metadata: luks.Metadata{Tokens: map[string]luks.Token{"0": *token}}}
	return &disk.Plan{Device: "/dev/" + of.Name, Action: disk.ActionOpen, Header: header}, nil
}

func (m *machine) PutSealed(_ string, token *luks.Token) error {
	m.sealed = token
	return nil
}

// boot runs an image, and returns the key that its disks get, or why there is none.
func (m *machine) boot(image string, disks ...string) (string, error) {
	m.t.Helper()
	m.System, m.sealed = system(m.t, &m.log), nil
	connection := m.tpm.Boot()
	digest := sha256.Sum256([]byte(image))
	tpmtest.Extend(m.t, connection, 4, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]})
	conf := &config.Config{Keys: []config.Key{{
		Name: "disk", Strategy: config.KeyTPM, SizeBytes: 64,
		TPM: &config.TPM{Device: "/dev/tpmrm0", Bank: "sha256", PCRs: []int{4, 11}},
	}}}
	for _, name := range disks {
		conf.Disks = append(conf.Disks, config.Disk{Name: name, Key: "disk"})
	}
	source := &Source{Log: logging.New(&m.log, false), Disks: m, OpenTPM: func(string) (*tpm.Device, error) { return tpm.New(connection), nil }}
	err := source.Run(m.t.Context(), conf)
	data, _ := os.ReadFile(filepath.Join(m.RunDir, "keys", "disk"))
	if len(data) > 0 && bytes.Contains(m.log.Bytes(), data) {
		m.t.Error("the key is in the log")
	}
	return string(data), err
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, tpm: tpmtest.New(t), tokens: map[string]*luks.Token{}, up: map[string]bool{}}
}

// firstBoot formats the disks with a new key.
func (m *machine) firstBoot(disks ...string) string {
	m.t.Helper()
	key, err := m.boot("image 1", disks...)
	if err != nil || len(key) != 64 || m.sealed == nil {
		m.t.Fatalf("%d bytes, sealed %v, %v", len(key), m.sealed, err)
	}
	for _, name := range disks {
		m.tokens[name] = m.sealed
	}
	return key
}

func refused(t *testing.T, key string, err error, want string) {
	t.Helper()
	if key != "" || err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("key of %d bytes, %v; want %q", len(key), err, want)
	}
}

func TestTheSameImageGetsItsKeyAndAnotherDoesNot(t *testing.T) {
	m := newMachine(t)
	first := m.firstBoot("data")
	second, err := m.boot("image 1", "data")
	if err != nil || second != first || m.sealed != nil {
		t.Errorf("%v, same: %v, sealed anew: %v", err, first == second, m.sealed != nil)
	}
	key, err := m.boot("image 2", "data")
	refused(t, key, err, "the TPM refuses the key")
	again, err := m.boot("image 1", "data")
	if err != nil || again != first {
		t.Errorf("after a refusal: %v", err)
	}
}

func TestADiskThatIsAddedGetsTheKeyOfTheOthers(t *testing.T) {
	m := newMachine(t)
	first := m.firstBoot("data")
	second, err := m.boot("image 1", "data", "logs")
	if err != nil || second != first || m.sealed == nil || !m.sealed.Equal(m.tokens["data"]) {
		t.Errorf("%v, same: %v, sealed: %v", err, first == second, m.sealed)
	}
}

func TestDisksOfTwoMachinesAreRefused(t *testing.T) {
	m := newMachine(t)
	m.firstBoot("data")
	other := newMachine(t)
	other.firstBoot("logs")
	m.tokens["logs"] = other.tokens["logs"]
	key, err := m.boot("image 1", "data", "logs")
	refused(t, key, err, "hold different sealed keys")
	delete(m.tokens, "data")
	key, err = m.boot("image 1", "data", "logs")
	refused(t, key, err, "this TPM did not make the sealed key")
}

func TestMountedDisksNeedNoKey(t *testing.T) {
	m := newMachine(t)
	m.firstBoot("data", "logs")
	m.up["data"], m.up["logs"] = true, true
	if key, err := m.boot("image 1", "data", "logs"); err != nil || key != "" {
		t.Errorf("%d bytes, %v", len(key), err)
	}
	delete(m.tokens, "logs")
	m.up["logs"] = false
	key, err := m.boot("image 1", "data", "logs")
	refused(t, key, err, "in the header of a disk in use")
}

func TestAKeyOfOneNameIsNoOtherKey(t *testing.T) {
	m := newMachine(t)
	m.firstBoot("data")
	renamed := *m.tokens["data"]
	connection := m.tpm.Boot()
	digest := sha256.Sum256([]byte("image 1"))
	tpmtest.Extend(t, connection, 4, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]})
	other := &config.Key{Name: "other", TPM: &config.TPM{Bank: "sha256", PCRs: []int{4, 11}}}
	_, err := tpm.New(connection).Unseal(other.TPM, &tpm.Sealed{Public: renamed.Public, Private: renamed.Private, Ticket: renamed.Ticket}, 64, label(other))
	refused(t, "", err, "was not made by this image")
}
