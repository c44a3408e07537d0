package secrets

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"time"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
)

// bindingLabel separates the report data of this protocol from that of any other use of quotes.
const bindingLabel = "tdx-guest secrets v1\n"

// nonceBytes is the length of a client's nonce.
const nonceBytes = 32

// identity is the key of the server, as a client sees it. Without TLS it is empty.
type identity struct {
	certificate tls.Certificate
	pem         string
	// spki is the SHA-256 of the certificate's DER SubjectPublicKeyInfo; zero without TLS.
	spki [sha256.Size]byte
	tls  bool
}

// reportData is what a quote must carry so that it speaks for this server and this client's question.
func (i *identity) reportData(nonce [nonceBytes]byte) [sha512.Size]byte {
	hash := sha512.New()
	hash.Write([]byte(bindingLabel))
	hash.Write(nonce[:])
	hash.Write(i.spki[:])
	return [sha512.Size]byte(hash.Sum(nil))
}

// newIdentity makes or reads the key that the configuration asks for.
func newIdentity(conf *config.Secrets) (*identity, error) {
	switch conf.TLS {
	case config.TLSGenerated:
		certificate, err := generate()
		if err != nil {
			return nil, fmt.Errorf("cannot make a key for TLS: %w", err)
		}
		return identityOf(certificate)
	case config.TLSFiles:
		certificate, err := readCertificate(conf.Certificate, conf.Key)
		if err != nil {
			return nil, err
		}
		return identityOf(certificate)
	default:
		return &identity{}, nil
	}
}

func identityOf(certificate tls.Certificate) (*identity, error) {
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("the certificate cannot be read: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
	return &identity{certificate: certificate, pem: string(text), spki: sha256.Sum256(leaf.RawSubjectPublicKeyInfo), tls: true}, nil
}

// generate makes a key that lives in the memory of this process alone, and a certificate that says nothing but
// the key: clients trust it because of the quote. Its dates hold always, as the clock may not be set yet.
func generate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "tdx-guest"},
		DNSNames:     []string{"tdx-guest"},
		NotBefore:    time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5: no end
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// readCertificate refuses a key that lies in the image or on a disk: everybody who has the image would have it.
func readCertificate(certificatePath, keyPath string) (tls.Certificate, error) {
	certificate, err := readBounded(certificatePath, maxPEMBytes, nil)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readBounded(keyPath, maxPEMBytes, checkVolatile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return tls.Certificate{}, fault.Refuse("put the two PEM files of one key there, in an earlier boot step",
			"%s and %s are no certificate and its key", certificatePath, keyPath)
	}
	return pair, nil
}

// maxPEMBytes bounds a certificate chain.
const maxPEMBytes = 64 << 10

func readBounded(name string, limit int64, check func(*os.File) error) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fault.Wrap(err, "put it there in an earlier boot step", "a file of the secrets' server is missing")
	}
	defer file.Close()
	if check != nil {
		if err := check(file); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fault.Refuse("", "%s has more than %d bytes", name, limit)
	}
	return data, nil
}
