package config

import (
	"errors"
	"fmt"
	"slices"
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
	// PCRs are the registers of the policy, ascending; one of them is among [ImagePCRs].
	PCRs []int `json:"pcrs"`
}

// ImagePCRs are the registers into which firmware measures the image: 4, and 2 on Google Cloud, where the image is an option of
// the firmware. What runs later can extend all registers from 8 on by itself, and those that firmware extends with something
// else are the same for another image.
var ImagePCRs = []int{2, 4}

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
	for index, pcr := range t.PCRs {
		if pcr < 0 || pcr > 23 || index > 0 && pcr <= t.PCRs[index-1] {
			errs = append(errs, fmt.Errorf("pcrs %v must be ascending numbers from 0 to 23", t.PCRs))
			break
		}
	}
	holdsImage := func(pcr int) bool { return slices.Contains(ImagePCRs, pcr) }
	if len(t.PCRs) > 0 && !slices.ContainsFunc(t.PCRs, holdsImage) {
		errs = append(errs, fmt.Errorf("pcrs %v lack the register that holds the image's hash (4, or 2 on Google Cloud): another image could open the disk", t.PCRs))
	}
	return errors.Join(errs...)
}
