package config

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// How a key comes about.
const (
	// KeyTPM is a random key, made on the first boot and sealed to the TPM under a policy over PCRs. The
	// sealed form lies in the LUKS2 header of the disk that it opens, as a token.
	KeyTPM = "tpm"
	// KeyRandom comes from the kernel on each boot and is forgotten when the machine stops.
	KeyRandom = "random"
	// KeyPipe is read from a named pipe, into which another boot step writes it.
	KeyPipe = "pipe"
	// KeyTDX would be derived from a TDX report by a key broker; there is none, so it is refused.
	KeyTDX = "tdx"
)

// Key is one disk encryption key.
type Key struct {
	// Name is what disks refer to, and the file name below /run/tdx-guest/keys.
	Name string `json:"name"`
	// Strategy is one of tpm, random, pipe, tdx.
	Strategy string `json:"strategy"`
	// SizeBytes is 32 or 64.
	SizeBytes int `json:"size_bytes"`
	// Keep leaves the key in /run/tdx-guest/keys after its disks are open, for a service that needs it too.
	Keep bool `json:"keep,omitempty"`
	// TPM is there for strategy tpm, and only there.
	TPM *TPM `json:"tpm,omitempty"`
	// Pipe is there for strategy pipe, and only there.
	Pipe *Pipe `json:"pipe,omitempty"`
}

// TPM says what a key is sealed to.
type TPM struct {
	// Device is the character device, such as /dev/tpmrm0.
	Device string `json:"device"`
	// Bank is the hash of the PCR bank: sha256 or sha384.
	Bank string `json:"bank"`
	// PCRs are the registers of the policy, ascending.
	PCRs []int `json:"pcrs"`
	// Expected holds predicted values of some of the PCRs. Sealing is refused where the TPM has others.
	// A register that measures the image itself cannot be predicted inside of the image.
	Expected []PCRValue `json:"expected,omitempty"`
}

// PCRValue is the value of one register.
type PCRValue struct {
	PCR int `json:"pcr"`
	// Digest is lower-case hexadecimal, of the bank's length.
	Digest string `json:"digest"`
}

// Pipe says where a key is read from.
type Pipe struct {
	// Path is the named pipe; it is made, for root alone, where it is missing.
	Path string `json:"path"`
	// TimeoutS is how long to wait for the key, in seconds.
	TimeoutS int `json:"timeout_s"`
}

// DigestBytes is the length of a digest of that bank, or 0.
func DigestBytes(bank string) int {
	switch bank {
	case "sha256":
		return 32
	case "sha384":
		return 48
	}
	return 0
}

func (k *Key) check() error {
	errs := []error{checkName(k.Name), oneOf("strategy", k.Strategy, KeyTPM, KeyRandom, KeyPipe, KeyTDX)}
	if k.SizeBytes != 32 && k.SizeBytes != 64 {
		errs = append(errs, fmt.Errorf("size_bytes is %d and must be 32 or 64", k.SizeBytes))
	}
	if k.Strategy == KeyTDX {
		errs = append(errs, errors.New("strategy \"tdx\" needs a key broker, and there is no interface to one yet: use tpm, pipe or random"))
	}
	errs = append(errs, onlyWith("tpm", k.TPM != nil, k.Strategy, KeyTPM), onlyWith("pipe", k.Pipe != nil, k.Strategy, KeyPipe))
	if k.TPM != nil {
		errs = append(errs, within("tpm", k.TPM.check()))
	}
	if k.Pipe != nil {
		errs = append(errs, within("pipe", checkPath("path", k.Pipe.Path), inRange("timeout_s", k.Pipe.TimeoutS, 1, 3600)))
	}
	return errors.Join(errs...)
}

// onlyWith refuses a section without its strategy, and a strategy without its section.
func onlyWith(section string, present bool, strategy, wants string) error {
	switch {
	case present && strategy != wants:
		return fmt.Errorf("section %q belongs to strategy %q, not to %q", section, wants, strategy)
	case !present && strategy == wants:
		return fmt.Errorf("strategy %q needs the section %q", strategy, section)
	}
	return nil
}

func (t *TPM) check() error {
	errs := []error{checkPath("device", t.Device), oneOf("bank", t.Bank, "sha256", "sha384")}
	if len(t.PCRs) == 0 {
		errs = append(errs, errors.New("pcrs is empty: a key that is sealed to nothing opens everywhere"))
	}
	listed := map[int]bool{}
	for index, pcr := range t.PCRs {
		if pcr < 0 || pcr > 23 || index > 0 && pcr <= t.PCRs[index-1] {
			errs = append(errs, fmt.Errorf("pcrs %v must be ascending numbers from 0 to 23", t.PCRs))
			break
		}
		listed[pcr] = true
	}
	for index, value := range t.Expected {
		errs = append(errs, within(fmt.Sprintf("expected[%d]", index), value.check(t.Bank, listed)))
		delete(listed, value.PCR)
	}
	return errors.Join(errs...)
}

func (v PCRValue) check(bank string, listed map[int]bool) error {
	digest, err := hex.DecodeString(v.Digest)
	switch {
	case !listed[v.PCR]:
		return fmt.Errorf("pcr %d is not among pcrs, or is there twice", v.PCR)
	case err != nil, len(digest) != DigestBytes(bank), hex.EncodeToString(digest) != v.Digest:
		return fmt.Errorf("digest %q is not %d lower-case hexadecimal digits", v.Digest, 2*DigestBytes(bank))
	}
	return nil
}
