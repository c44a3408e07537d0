package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of the section of secrets.
const (
	minBodyBytes     = 1 << 10
	maxBodyBytes     = 1 << 20
	maxSecrets       = 256
	maxSecretTargets = 64
	maxPatternBytes  = 1024
)

var (
	secretPattern   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	unitPattern     = regexp.MustCompile(`^[A-Za-z0-9:_.@-]{1,240}\.service$`)
	modePattern     = regexp.MustCompile(`^0[0-7]{3}$`)
	accountPattern  = regexp.MustCompile(`^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,9})$`)
	digestPattern   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// What steers how programs are loaded, or how systemd talks to them, is never a secret.
var (
	reservedVariables = []string{"PATH", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"}
	reservedPrefixes  = []string{"LD_", "LISTEN_"}
)

func (s *Secrets) check() error {
	errs := []error{
		oneOf("method", s.Method, MethodHTTP, MethodVsock, MethodFile, MethodEnv),
		inRange("max_body_bytes", s.MaxBodyBytes, minBodyBytes, maxBodyBytes),
		inRange("timeout_seconds", s.TimeoutSeconds, 0, 7*24*3600),
		inRange("number of secrets", len(s.Secrets), 1, maxSecrets),
		s.checkServer(),
		s.checkTLS(),
	}
	if s.Method == MethodFile {
		errs = append(errs, checkPath("source", s.Source))
	} else if s.Source != "" {
		errs = append(errs, fmt.Errorf("source belongs to method %q", MethodFile))
	}
	names := map[string]bool{}
	places := map[string]bool{}
	for index := range s.Secrets {
		secret := &s.Secrets[index]
		where := fmt.Sprintf("secrets[%d]", index)
		errs = append(errs, within(where, secret.check(s.MaxBodyBytes), unique(names, secret.Name), secret.claim(places)))
	}
	return errors.Join(errs...)
}

// checkServer holds what only a server has against the method.
func (s *Secrets) checkServer() error {
	if s.Method != MethodHTTP && s.Method != MethodVsock {
		if s.Address != "" || s.Port != 0 || s.TokenSHA256 != "" || s.RequestsPerMinute != 0 || s.RequestsPerMinuteTotal != 0 {
			return fmt.Errorf("address, port, token_sha256 and requests_per_minute belong to methods %q and %q", MethodHTTP, MethodVsock)
		}
		return nil
	}
	errs := []error{
		inRange("requests_per_minute", s.RequestsPerMinute, 1, 60000),
		inRange("requests_per_minute_total", s.RequestsPerMinuteTotal, 1, 60000),
	}
	highest := int64(65535)
	if s.Method == MethodVsock {
		highest = 1<<32 - 2 // the last one means "any"
		if s.Address != "" {
			errs = append(errs, fmt.Errorf("address belongs to method %q", MethodHTTP))
		}
	}
	if s.Port < 1 || s.Port > highest {
		errs = append(errs, fmt.Errorf("port is %d and must be 1 to %d", s.Port, highest))
	}
	if _, err := netip.ParseAddr(s.Address); s.Address != "" && err != nil {
		errs = append(errs, fmt.Errorf("address %q is no IP address", s.Address))
	}
	if s.TokenSHA256 != "" && !digestPattern.MatchString(s.TokenSHA256) {
		errs = append(errs, errors.New("token_sha256 is not 64 lower-case hexadecimal digits"))
	}
	return errors.Join(errs...)
}

func (s *Secrets) checkTLS() error {
	if s.Method != MethodHTTP && s.Method != MethodVsock {
		if s.TLS != "" && s.TLS != TLSOff {
			return fmt.Errorf("tls belongs to methods %q and %q", MethodHTTP, MethodVsock)
		}
		return nil
	}
	if s.TLS == TLSFiles {
		return errors.Join(checkPath("certificate", s.Certificate), checkPath("key", s.Key))
	}
	if s.Certificate != "" || s.Key != "" {
		return fmt.Errorf("certificate and key belong to tls %q", TLSFiles)
	}
	return oneOf("tls", s.TLS, TLSOff, TLSGenerated, TLSFiles)
}

func (s *Secret) check(bodyBytes int) error {
	var errs []error
	if !secretPattern.MatchString(s.Name) {
		errs = append(errs, fmt.Errorf("name %q must be a-z, 0-9 and \"_\", start with a letter and have at most 64 characters", s.Name))
	}
	errs = append(errs, within("schema", s.Schema.check(bodyBytes)), inRange("number of targets", len(s.Targets), 1, maxSecretTargets))
	for index := range s.Targets {
		target := &s.Targets[index]
		err := target.check()
		if target.Type == TargetEnv && s.Schema.Kind == KindBase64 {
			err = errors.Join(err, errors.New("base64 may hold any byte, and a variable cannot"))
		}
		errs = append(errs, within(fmt.Sprintf("targets[%d]", index), err))
	}
	return errors.Join(errs...)
}

// claim refuses that two secrets go to one file or one variable.
func (s *Secret) claim(places map[string]bool) error {
	var errs []error
	for index := range s.Targets {
		target := &s.Targets[index]
		place := target.Path
		if target.Type == TargetEnv {
			place = target.EnvironmentFile() + " " + target.Variable
		}
		errs = append(errs, unique(places, place))
	}
	return errors.Join(errs...)
}

func (s *SecretSchema) check(bodyBytes int) error {
	errs := []error{
		oneOf("kind", s.Kind, KindString, KindInt, KindJSON, KindPEM, KindBase64),
		inRange("max_length", s.MaxLength, 1, bodyBytes),
		inRange("min_length", s.MinLength, 0, s.MaxLength),
	}
	if s.Pattern != "" {
		if s.Kind == KindJSON || s.Kind == KindBase64 {
			errs = append(errs, fmt.Errorf("pattern belongs to kinds string, int and pem, not %s", s.Kind))
		}
		if _, err := regexp.Compile(s.Pattern); err != nil || len(s.Pattern) > maxPatternBytes {
			errs = append(errs, fmt.Errorf("pattern %q is not RE2 of at most %d bytes", s.Pattern, maxPatternBytes))
		}
	}
	if len(s.Enum) > 0 && s.Kind != KindString && s.Kind != KindInt {
		errs = append(errs, fmt.Errorf("enum belongs to kinds string and int, not %s", s.Kind))
	}
	return errors.Join(errs...)
}

func (t *SecretTarget) check() error {
	switch t.Type {
	case TargetFile:
		if t.Variable != "" || t.Scope != "" || t.Service != "" {
			return fmt.Errorf("variable, scope and service belong to type %q", TargetEnv)
		}
		return t.checkFile()
	case TargetEnv:
		if t.Path != "" || t.Mode != "" || t.Owner != "" || t.Group != "" {
			return fmt.Errorf("path, mode, owner and group belong to type %q", TargetFile)
		}
		return t.checkVariable()
	}
	return oneOf("type", t.Type, TargetFile, TargetEnv)
}

func (t *SecretTarget) checkFile() error {
	errs := []error{checkPath("path", t.Path)}
	if t.Path == SecretsDirectory || strings.HasPrefix(t.Path, SecretsDirectory+"/") {
		errs = append(errs, fmt.Errorf("path %q lies in the folder that keeps the state", t.Path))
	}
	if !modePattern.MatchString(t.Mode) || t.FileMode()&0o117 != 0 {
		errs = append(errs, fmt.Errorf("mode %q must be four octal digits, nothing for others, nothing executable", t.Mode))
	}
	for _, account := range []string{t.Owner, t.Group} {
		if !accountPattern.MatchString(account) {
			errs = append(errs, fmt.Errorf("owner or group %q is no name of a user or group", account))
		}
	}
	return errors.Join(errs...)
}

// FileMode is Mode as a number.
func (t *SecretTarget) FileMode() uint32 {
	mode, _ := strconv.ParseUint(t.Mode, 8, 12) // checkFile has seen the digits
	return uint32(mode)
}

func (t *SecretTarget) checkVariable() error {
	var errs []error
	if !variablePattern.MatchString(t.Variable) {
		errs = append(errs, fmt.Errorf("variable %q must be letters, digits and \"_\", at most 128", t.Variable))
	}
	if slices.Contains(reservedVariables, t.Variable) || slices.ContainsFunc(reservedPrefixes, func(prefix string) bool {
		return strings.HasPrefix(t.Variable, prefix)
	}) {
		errs = append(errs, fmt.Errorf("variable %q steers how programs start", t.Variable))
	}
	switch {
	case t.Scope == ScopeGlobal && t.Service != "":
		errs = append(errs, fmt.Errorf("service %q belongs to scope %q", t.Service, ScopeService))
	case t.Scope == ScopeService && !unitPattern.MatchString(t.Service):
		errs = append(errs, fmt.Errorf("service %q is no unit of type service", t.Service))
	}
	return errors.Join(append(errs, oneOf("scope", t.Scope, ScopeGlobal, ScopeService))...)
}
