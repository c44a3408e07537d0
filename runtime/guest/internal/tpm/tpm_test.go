package tpm

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"net"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/secret"
	"tdxvm/guest/internal/tpmtest"
)

const label = "tdx-guest key disk"

var policy = &config.TPM{Device: "/dev/tpmrm0", Bank: "sha256", PCRs: []int{4, 7, 11}}

// boot starts the machine with an image: its name is what is measured into PCR 4.
func boot(t *testing.T, machine *tpmtest.Machine, image string) (*Device, *spy) {
	t.Helper()
	connection := machine.Boot()
	measure(t, connection, image)
	watched := &spy{Conn: connection}
	return New(watched), watched
}

func measure(t *testing.T, connection net.Conn, image string) {
	t.Helper()
	short, long := sha256.Sum256([]byte(image)), sha512.Sum384([]byte(image))
	tpmtest.Extend(t, connection, 4, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA256, Digest: short[:]}, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA384, Digest: long[:]})
}

// spy is an interposer that writes down all that crosses the bus.
type spy struct {
	net.Conn
	seen bytes.Buffer
}

func (s *spy) Write(data []byte) (int, error) {
	s.seen.Write(data)
	return s.Conn.Write(data)
}

func (s *spy) Read(data []byte) (int, error) {
	n, err := s.Conn.Read(data)
	s.seen.Write(data[:n])
	return n, err
}

func key(t *testing.T, text string) *secret.Buffer {
	t.Helper()
	buffer, err := secret.Take([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(buffer.Close)
	return buffer
}

const keyText = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func seal(t *testing.T, device *Device, policy *config.TPM) *Sealed {
	t.Helper()
	sealed, err := device.Seal(policy, key(t, keyText), label)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealedOnOneBootOpensOnTheNext(t *testing.T) {
	for _, bank := range []string{"sha256", "sha384"} {
		t.Run(bank, func(t *testing.T) {
			policy := &config.TPM{Bank: bank, PCRs: []int{4, 7}}
			machine := tpmtest.New(t)
			device, bus := boot(t, machine, "image 1")
			sealed := seal(t, device, policy)
			if bytes.Contains(bus.seen.Bytes(), []byte(keyText)) || bytes.Contains(sealed.Private, []byte(keyText)) {
				t.Error("the key crosses the bus in the clear")
			}
			device, bus = boot(t, machine, "image 1")
			got, err := device.Unseal(policy, sealed, len(keyText), label)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			if string(got.Bytes()) != keyText {
				t.Error("another key came back")
			}
			if bytes.Contains(bus.seen.Bytes(), []byte(keyText)) {
				t.Error("the key crosses the bus in the clear")
			}
		})
	}
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestUnsealRefusals(t *testing.T) {
	machine := tpmtest.New(t)
	device, _ := boot(t, machine, "image 1")
	sealed := seal(t, device, policy)
	with := func(change func(*Sealed)) *Sealed {
		copied := *sealed
		copied.Public, copied.Private, copied.Ticket = bytes.Clone(sealed.Public), bytes.Clone(sealed.Private), bytes.Clone(sealed.Ticket)
		change(&copied)
		return &copied
	}
	cases := []struct {
		name   string
		sealed *Sealed
		size   int
		label  string
		want   string
	}{
		{"private part", with(func(s *Sealed) { s.Private[20] ^= 1 }), 64, label, "did not make the sealed key"},
		{"private part cut", with(func(s *Sealed) { s.Private = s.Private[:9] }), 64, label, "did not make the sealed key"},
		{"no private part", with(func(s *Sealed) { s.Private = nil }), 64, label, "did not make the sealed key"},
		{"unique", with(func(s *Sealed) { s.Public[len(s.Public)-1] ^= 1 }), 64, label, "did not make the sealed key"},
		{"attributes", with(func(s *Sealed) { s.Public[7] ^= 0x40 }), 64, label, "damaged, or was made for other PCRs"},
		{"public part cut", with(func(s *Sealed) { s.Public = s.Public[:5] }), 64, label, "damaged, or was made for other PCRs"},
		{"no public part", with(func(s *Sealed) { s.Public = nil }), 64, label, "damaged, or was made for other PCRs"},
		{"ticket", with(func(s *Sealed) { s.Ticket[0] ^= 1 }), 64, label, "was not made by this image"},
		{"no ticket", with(func(s *Sealed) { s.Ticket = nil }), 64, label, "was not made by this image"},
		{"long ticket", with(func(s *Sealed) { s.Ticket = make([]byte, 500) }), 64, label, "was not made by this image"},
		{"key for something else", sealed, 64, "tdx-guest key other", "was not made by this image"},
		{"other size", sealed, 32, label, "has 64 bytes, and the configuration says 32"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := device.Unseal(policy, c.sealed, c.size, c.label)
			refused(t, err, c.want)
		})
	}
	other := &config.TPM{Bank: "sha256", PCRs: []int{7}}
	_, err := device.Unseal(other, sealed, 64, label)
	refused(t, err, "for other PCRs than the configuration lists")
}

func TestAChangedImageIsToldWhichRegister(t *testing.T) {
	machine := tpmtest.New(t)
	device, _ := boot(t, machine, "image 1")
	sealed := seal(t, device, policy)
	device, _ = boot(t, machine, "image 2")
	_, err := device.Unseal(policy, sealed, 64, label)
	refused(t, err, "not the one that the key was sealed to (PCR 4 was ")
	if strings.Contains(err.Error(), "PCR 7") {
		t.Errorf("names what did not change: %v", err)
	}
	// The policy itself refuses as well, should the check before it be wrong: the values lie, the TPM does not.
	lying := *sealed
	lying.Values = nil
	_, err = device.Unseal(policy, &lying, 64, label)
	refused(t, err, "damaged, or was made for other PCRs")
}

func TestAnotherTPMAndAClearedOneRefuse(t *testing.T) {
	device, _ := boot(t, tpmtest.New(t), "image 1")
	sealed := seal(t, device, policy)
	other, _ := boot(t, tpmtest.New(t), "image 1")
	_, err := other.Unseal(policy, sealed, 64, label)
	refused(t, err, "this TPM did not make the sealed key")
}

// TestAKeyOfAnotherSystemIsRefused is the attack that the creation ticket is there for: another system runs on the same TPM,
// seals a key that it knows under the policy of the image, and puts it onto the disk. The policy is satisfied
// when the image runs, and still the key is refused.
func TestAKeyOfAnotherSystemIsRefused(t *testing.T) {
	machine := tpmtest.New(t)
	device, _ := boot(t, machine, "image 1")
	victim, err := device.ReadPCRs(policy.Bank, policy.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	device, _ = boot(t, machine, "system of the attacker")
	parent, err := device.makePrimary()
	if err != nil {
		t.Fatal(err)
	}
	response, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: parent.handle, Name: parent.name, Auth: tpm2.PasswordAuth(nil)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte(keyText)}),
		}},
		InPublic:    tpm2.New2B(template(policyDigest(policy, victim))),
		OutsideInfo: tpm2.TPM2BData{Buffer: []byte(label)},
		CreationPCR: selection(policy.Bank, policy.PCRs),
	}.Execute(device.connection)
	if err != nil {
		t.Fatal(err)
	}
	forged := &Sealed{Public: response.OutPublic.Bytes(), Private: response.OutPrivate.Buffer, Ticket: response.CreationTicket.Digest.Buffer, Values: victim}
	device, _ = boot(t, machine, "image 1")
	_, err = device.Unseal(policy, forged, 64, label)
	refused(t, err, "was not made by this image on this TPM")
}

func TestNoHandlesAreLeftBehind(t *testing.T) {
	machine := tpmtest.New(t)
	device, _ := boot(t, machine, "image 1")
	for range 12 { // a TPM has room for three transient objects and three sessions
		sealed := seal(t, device, policy)
		if got, err := device.Unseal(policy, sealed, 64, label); err != nil {
			t.Fatal(err)
		} else {
			got.Close()
		}
		sealed.Ticket[0] ^= 1
		_, err := device.Unseal(policy, sealed, 64, label)
		refused(t, err, "was not made by this image")
	}
}

// TestOpenRefusesWhatIsNoTPM needs no TPM.
func TestOpenRefusesWhatIsNoTPM(t *testing.T) {
	_, err := Open("/dev/does-not-exist")
	refused(t, err, "there is no TPM")
	_, err = Open("/etc/hostname")
	refused(t, err, "no character device")
}
