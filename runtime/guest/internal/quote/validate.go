package quote

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
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

// intelQESigner is the MRSIGNER of Intel's quoting enclave for trust domains, and intelQEProduct its ISVPRODID ("TD_QE" at
// api.trustedservices.intel.com/tdx/certification/v4/qe/identity). Whoever owns a machine with SGX can run an enclave of their own
// for which it makes such a report, and which signs quotes of any content; so the signer counts as much as the chain.
const (
	intelQESigner  = "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"
	intelQEProduct = 2
)

// Checks, as answers name them.
const (
	checkStructure = "structure"
	checkChain     = "pck_chain"
	checkQEReport  = "qe_report"
	checkQESigner  = "qe_signer"
	checkBinding   = "attestation_key"
	checkSignature = "signature"
	checkDebug     = "not_debug"
	checkExpected  = "expected"
)

// notChecked says what needs Intel's collateral of the day, which a machine without a network does not have.
var notChecked = []string{
	"revocation lists of the PCK certificates",
	"TCB level of the platform (TCB info)",
	"TCB level of the quoting enclave (QE identity)",
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
	verdict.note(checkQESigner, parsed.checkQESigner())
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

// checkQESigner refuses a quoting enclave that is not Intel's, or that its host can look into. Places in the report are those of
// SGX's REPORT (Intel SDM, volume 3D, section 38.15).
func (p *Parsed) checkQESigner() error {
	attributes, signer, product := p.qeReport[48:64], p.qeReport[128:160], p.qeReport[256:258]
	switch {
	case hex.EncodeToString(signer) != intelQESigner || binary.LittleEndian.Uint16(product) != intelQEProduct:
		return fmt.Errorf("the quoting enclave is not Intel's: its signer is %x", signer)
	case attributes[0]&2 != 0:
		return errors.New("the quoting enclave is in debug mode, so its host can read its key")
	}
	return nil
}

// checkDebug refuses a debug TD, whose memory the host can read. The first byte of TD ATTRIBUTES is for that ("TD under debug"): a
// domain with any bit of it is not to be trusted ("TDX DCAP Quoting Library API", Appendix A.3.4).
func (p *Parsed) checkDebug() error {
	if under := p.Fields["td_attributes"][0]; under != 0 {
		return fmt.Errorf("it is of a TD under debug (attributes %#02x), which its host can look into", under)
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
