package quote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"slices"
	"time"
)

// fakeIssuer makes quotes in the right format, signed by keys of its own that are made at each start. They let
// tests go the whole way, and no check of a real one takes them, as their chain ends in a root of its own.
type fakeIssuer struct {
	pck, attestation *ecdsa.PrivateKey
	chain            []byte
	root             string // SHA-256 of the root's SubjectPublicKeyInfo, in hex
}

func newFakeIssuer() (*fakeIssuer, error) {
	var keys [3]*ecdsa.PrivateKey
	for index := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		keys[index] = key
	}
	rootKey, pck, attestation := keys[0], keys[1], keys[2]
	rootDER, err := fakeCertificate("tdx-guest fake root", nil, rootKey, rootKey)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, err
	}
	leafDER, err := fakeCertificate("tdx-guest fake PCK", root, pck, rootKey)
	if err != nil {
		return nil, err
	}
	var chain []byte
	for _, der := range [][]byte{leafDER, rootDER} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	spki := sha256.Sum256(root.RawSubjectPublicKeyInfo)
	return &fakeIssuer{pck: pck, attestation: attestation, chain: chain, root: hex.EncodeToString(spki[:])}, nil
}

func fakeCertificate(name string, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		IsCA: parent == nil, BasicConstraintsValid: true,
	}
	if parent == nil {
		parent = template
	}
	return x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
}

// Issue puts the data into a body whose measurements are the SHA-384 of their names.
func (f *fakeIssuer) Issue(_ context.Context, data [ReportDataBytes]byte) (Issued, error) {
	header := make([]byte, headerBytes)
	binary.LittleEndian.PutUint16(header, 4)
	binary.LittleEndian.PutUint16(header[2:], keyECDSAP256)
	binary.LittleEndian.PutUint32(header[4:], teeTDX)
	body := make([]byte, body10Bytes)
	for _, each := range fields {
		if each.size == sha512.Size384 && !each.only15Bytes {
			sum := sha512.Sum384([]byte("fake " + each.name))
			copy(body[each.at:], sum[:])
		}
	}
	copy(body[520:], data[:])
	signed := slices.Concat(header, body)
	signature, err := fakeSign(f.attestation, signed)
	if err != nil {
		return Issued{}, err
	}
	key := append(f.attestation.X.FillBytes(make([]byte, 32)), f.attestation.Y.FillBytes(make([]byte, 32))...)
	vouching := sha256.Sum256(key) // no authentication data
	qeReport := make([]byte, qeReportBytes)
	signer, _ := hex.DecodeString(intelQESigner) // of Intel's, as the rest of the way is to be gone with it
	copy(qeReport[128:], signer)
	qeReport[256] = intelQEProduct
	copy(qeReport[qeReportDataAt:], vouching[:])
	qeSignature, err := fakeSign(f.pck, qeReport)
	if err != nil {
		return Issued{}, err
	}
	certification := slices.Concat(qeReport, qeSignature, little(2, 0), little(2, typePCKChain), little(4, len(f.chain)), f.chain)
	signatures := slices.Concat(signature, key, little(2, typeQEReport), little(4, len(certification)), certification)
	return Issued{Provider: ProviderFake, Quote: slices.Concat(signed, little(4, len(signatures)), signatures)}, nil
}

func fakeSign(key *ecdsa.PrivateKey, data []byte) ([]byte, error) {
	sum := sha256.Sum256(data)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return nil, err
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
}

// little writes a number of 2 or 4 bytes, little-endian.
func little(size, number int) []byte {
	return binary.LittleEndian.AppendUint32(nil, uint32(number))[:size]
}
