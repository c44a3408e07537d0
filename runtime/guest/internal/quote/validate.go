package quote

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"
)

// intelRootSPKI is the SHA-256 of the SubjectPublicKeyInfo of the Intel SGX Root CA, valid 2018 to 2049
// (certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer).
const intelRootSPKI = "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"

// Checks, as answers name them.
const (
	checkStructure = "structure"
	checkChain     = "pck_chain"
	checkQEReport  = "qe_report"
	checkBinding   = "attestation_key"
	checkSignature = "signature"
	checkDebug     = "not_debug"
	checkExpected  = "expected"
)

// notChecked says what needs Intel's collateral of the day, which a machine without a network does not have.
var notChecked = []string{
	"revocation lists of the PCK certificates",
	"TCB level of the platform (TCB info)",
	"identity and TCB level of the quoting enclave (QE identity)",
	"identity of the TDX module (mr_seam, mr_signer_seam), save where it is expected",
}

// Finding is one check that failed.
type Finding struct {
	Check   string `json:"check"`
	Message string `json:"message"`
}

// Verdict is what the checks of a quote came to.
type Verdict struct {
	Valid      bool              `json:"valid"`
	Fields     map[string]string `json:"fields"`
	Checked    []string          `json:"checked"`
	NotChecked []string          `json:"not_checked"`
	Faults     []Finding         `json:"faults"`
}

// Validate checks structure, signatures and certificates of a quote, and that fields have the expected values
// (lower or upper hex, by name). Signatures must lead to the Intel SGX Root CA; at says for which time the
// certificates must be valid.
func Validate(quote []byte, expected map[string]string, at time.Time) Verdict {
	return validate(quote, expected, at, intelRootSPKI)
}

func validate(quote []byte, expected map[string]string, at time.Time, root string) Verdict {
	verdict := Verdict{Fields: map[string]string{}, Checked: []string{}, NotChecked: notChecked, Faults: []Finding{}}
	parsed, err := Parse(quote)
	verdict.note(checkStructure, err)
	if err != nil {
		return verdict
	}
	for name, value := range parsed.Fields {
		verdict.Fields[name] = hex.EncodeToString(value)
	}
	leaf, err := parsed.checkChain(at, root)
	verdict.note(checkChain, err)
	if leaf != nil {
		verdict.note(checkQEReport, verify(leaf, parsed.qeReport, parsed.qeSignature))
	}
	verdict.note(checkBinding, parsed.checkBinding())
	key, err := publicKey(parsed.attestationKey)
	if err == nil {
		err = verify(key, parsed.signed, parsed.signature)
	}
	verdict.note(checkSignature, err)
	verdict.note(checkDebug, parsed.checkDebug())
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		verdict.note(checkExpected, parsed.checkExpected(name, expected[name]))
	}
	verdict.Valid = len(verdict.Faults) == 0
	return verdict
}

func (v *Verdict) note(check string, err error) {
	if !slices.Contains(v.Checked, check) {
		v.Checked = append(v.Checked, check)
	}
	if err != nil {
		v.Faults = append(v.Faults, Finding{Check: check, Message: err.Error()})
	}
}

// checkChain returns the public key of the PCK certificate, also where only the root is not Intel's.
func (p *Parsed) checkChain(at time.Time, root string) (*ecdsa.PublicKey, error) {
	var certificates []*x509.Certificate
	for rest := p.chain; len(certificates) < 8; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("a certificate of the chain cannot be read: %w", err)
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) < 2 {
		return nil, fmt.Errorf("the chain has %d certificates", len(certificates))
	}
	leaf, isECDSA := certificates[0].PublicKey.(*ecdsa.PublicKey)
	if !isECDSA || leaf.Curve != elliptic.P256() {
		return nil, errors.New("the PCK certificate has no key of ECDSA P-256")
	}
	last := certificates[len(certificates)-1]
	if spki := sha256.Sum256(last.RawSubjectPublicKeyInfo); hex.EncodeToString(spki[:]) != root {
		return leaf, fmt.Errorf("the chain ends in %q, which is not the Intel SGX Root CA", last.Subject)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(last)
	for _, each := range certificates[1 : len(certificates)-1] {
		between.AddCert(each)
	}
	_, err := certificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return leaf, err
}

// checkBinding holds the attestation key against the QE report that vouches for it: the first half of its
// report data is SHA-256(key || authentication data), the second is zero.
func (p *Parsed) checkBinding() error {
	sum := sha256.Sum256(slices.Concat(p.attestationKey, p.qeAuthenticates))
	wanted := append(sum[:], make([]byte, 32)...)
	if !bytes.Equal(p.qeReport[qeReportDataAt:qeReportDataAt+64], wanted) {
		return errors.New("the QE report vouches for another attestation key")
	}
	return nil
}

// checkDebug refuses a debug TD, whose memory the host can read (TD ATTRIBUTES, bit 0).
func (p *Parsed) checkDebug() error {
	if p.Fields["td_attributes"][0]&1 != 0 {
		return errors.New("it is of a debug TD, whose memory the host can read")
	}
	return nil
}

func (p *Parsed) checkExpected(name, wanted string) error {
	is, known := p.Fields[name]
	value, err := hex.DecodeString(wanted)
	switch {
	case !known:
		return fmt.Errorf("the quote has no field %q", name)
	case err != nil || len(value) != len(is):
		return fmt.Errorf("what is expected of %s is not %d hexadecimal digits", name, 2*len(is))
	case !bytes.Equal(value, is):
		return fmt.Errorf("%s is %x, not %s", name, is, wanted)
	}
	return nil
}

// publicKey reads x and y, 32 bytes each, big-endian.
func publicKey(raw []byte) (*ecdsa.PublicKey, error) {
	// ecdh refuses what is no point of the curve.
	if _, err := ecdh.P256().NewPublicKey(append([]byte{4}, raw...)); err != nil {
		return nil, errors.New("the attestation key is no point of P-256")
	}
	return &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(raw[:32]), Y: new(big.Int).SetBytes(raw[32:])}, nil
}

// verify checks a signature of r and s, 32 bytes each, big-endian, over the SHA-256 of the data.
func verify(key *ecdsa.PublicKey, data, signature []byte) error {
	sum := sha256.Sum256(data)
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(key, sum[:], r, s) {
		return errors.New("the signature is wrong")
	}
	return nil
}
