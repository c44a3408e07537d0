package secrets

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tdxvm/guest/internal/config"
)

// Value is a secret in the form in which services get it. It never prints.
type Value []byte

const hidden = "[secret]"

// String hides the value, so that no log and no message shows it.
func (Value) String() string { return hidden }

// GoString hides the value from %#v.
func (Value) GoString() string { return hidden }

// Format hides the value from every verb, %x too.
func (Value) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte(hidden)) }

// Fault says why one secret of a post was refused. It holds nothing of the value.
type Fault struct {
	// Secret is the name; empty where the name itself is unknown, because a confused sender may have put the
	// value there.
	Secret string `json:"secret"`
	// Position is the place of an unknown name in the post, from one.
	Position int `json:"position,omitempty"`
	// Rule is what was broken: unknown, already, required, environment or a key of the schema.
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

// rule is a secret with its schema readied for use.
type rule struct {
	config.Secret
	pattern *regexp.Regexp // nil where there is none
}

// compile readies the schemas of a configuration, which has been checked when it was read.
func compile(secrets []config.Secret) ([]rule, error) {
	var rules []rule
	for _, secret := range secrets {
		compiled := rule{Secret: secret}
		if secret.Schema.Pattern != "" {
			pattern, err := regexp.Compile(secret.Schema.Pattern)
			if err != nil {
				return nil, fmt.Errorf("the pattern of the secret %s: %w", secret.Name, err)
			}
			compiled.pattern = pattern
		}
		rules = append(rules, compiled)
	}
	return rules, nil
}

// integerPattern is an integer of JSON (RFC 8259 section 6) without fraction and exponent.
var integerPattern = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// fromJSON holds one JSON value, already known to be strict JSON, against the schema.
func (r *rule) fromJSON(raw json.RawMessage) (Value, []Fault) {
	raw = bytes.TrimSpace(raw)
	switch r.Schema.Kind {
	case config.KindJSON:
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return nil, []Fault{r.fault("kind", "is not JSON")}
		}
		return r.checked(compact.Bytes())
	case config.KindInt:
		if !integerPattern.Match(raw) {
			return nil, []Fault{r.fault("kind", "must be a JSON integer, and is "+jsonType(raw))}
		}
		return r.fromText(string(raw))
	default:
		var text string
		if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
			return nil, []Fault{r.fault("kind", "must be a JSON string, and is "+jsonType(raw))}
		}
		return r.fromText(text)
	}
}

// fromText holds the text of a JSON string or integer against the schema.
func (r *rule) fromText(text string) (Value, []Fault) {
	switch r.Schema.Kind {
	case config.KindInt:
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil || strconv.FormatInt(number, 10) != text {
			return nil, []Fault{r.fault("kind", "must be a decimal integer of 64 bits")}
		}
	case config.KindBase64:
		// Strict refuses trailing bits, so that one value has one spelling.
		decoded, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || strings.ContainsAny(text, "\r\n") {
			return nil, []Fault{r.fault("kind", "must be base64 with padding and without line breaks")}
		}
		return r.checked(decoded)
	case config.KindPEM:
		if !isPEM(text) {
			return nil, []Fault{r.fault("kind", "must be one or more PEM blocks and nothing else")}
		}
	}
	return r.checked([]byte(text))
}

// asJSON writes the text of a credential as the JSON that a post would hold.
func (r *rule) asJSON(text string) (json.RawMessage, []Fault) {
	if !utf8.ValidString(text) {
		return nil, []Fault{r.fault("kind", "is not UTF-8")}
	}
	switch r.Schema.Kind {
	case config.KindInt:
		return json.RawMessage(text), nil // held against the form of an integer later
	case config.KindJSON:
		if strictJSON([]byte(text)) != nil {
			return nil, []Fault{r.fault("kind", "must be JSON, without a name that is there twice")}
		}
		return json.RawMessage(text), nil
	default:
		raw, err := json.Marshal(text)
		if err != nil {
			return nil, []Fault{r.fault("kind", "is not UTF-8")}
		}
		return raw, nil
	}
}

// checked holds the delivered bytes against the rest of the schema and says all that is wrong.
func (r *rule) checked(value Value) (Value, []Fault) {
	var faults []Fault
	length, unit := r.length(value)
	if length < r.Schema.MinLength {
		faults = append(faults, r.fault("min_length", fmt.Sprintf("has fewer than %d %s", r.Schema.MinLength, unit)))
	}
	if length > r.Schema.MaxLength {
		faults = append(faults, r.fault("max_length", fmt.Sprintf("has more than %d %s", r.Schema.MaxLength, unit)))
	}
	if r.pattern != nil && !r.pattern.Match(value) {
		faults = append(faults, r.fault("pattern", "does not match "+r.Schema.Pattern))
	}
	if len(r.Schema.Enum) > 0 && !slices.Contains(r.Schema.Enum, string(value)) {
		faults = append(faults, r.fault("enum", "is none of the values that the recipe lists"))
	}
	for index := range r.Targets {
		if why := unfit(&r.Targets[index], value); why != "" {
			faults = append(faults, r.fault("environment", why))
			break
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return value, nil
}

// length is in Unicode code points for text, and in bytes for base64 (decoded) and json (compact).
func (r *rule) length(value Value) (int, string) {
	switch r.Schema.Kind {
	case config.KindJSON, config.KindBase64:
		return len(value), "bytes"
	default:
		return utf8.RuneCount(value), "characters"
	}
}

func (r *rule) fault(broken, message string) Fault {
	return Fault{Secret: r.Name, Rule: broken, Message: message}
}

// isPEM says whether text is PEM blocks (RFC 7468) with nothing but white space around them.
func isPEM(text string) bool {
	rest := []byte(text)
	for blocks := 0; ; blocks++ {
		rest = bytes.TrimLeft(rest, " \t\r\n")
		if len(rest) == 0 {
			return blocks > 0
		}
		block, after := pem.Decode(rest)
		// Decode skips what is no block, so this one must start where the last one ended, and hold no other start.
		begin := []byte("-----BEGIN ")
		if block == nil || !bytes.HasPrefix(rest, begin) || bytes.Count(rest[:len(rest)-len(after)], begin) != 1 {
			return false
		}
		rest = after
	}
}

// longestVariable is how many bytes NAME=VALUE and the NUL byte behind it may have: Linux starts no program with more
// (MAX_ARG_STRLEN of linux/binfmts.h: 32 pages). Whatever was taken stays, so a service that cannot start would never start.
const longestVariable = 32 * 4096

// unfit says why a value cannot become what the target is, or "".
func unfit(target *config.SecretTarget, value Value) string {
	switch {
	case target.Type != config.TargetEnv:
		return ""
	case !fitsVariable(value):
		return "holds a control character or a code point that is no character, which a variable cannot"
	case len(target.Variable)+len("=")+len(value)+1 > longestVariable:
		return fmt.Sprintf("has %d bytes, and a variable of this name at most %d", len(value), longestVariable-len(target.Variable)-2)
	}
	return ""
}

// fitsVariable says whether a variable of the environment can hold the value: systemd takes UTF-8 without
// control characters other than line feed and tab (env_value_is_valid and its parser of environment files), and without the code
// points that are no characters (unichar_is_valid). What it does not take it writes to the journal, value and all.
func fitsVariable(value Value) bool {
	return utf8.Valid(value) && !bytes.ContainsFunc(value, func(char rune) bool {
		return char < ' ' && char != '\n' && char != '\t' || char == 0x7f || isNoncharacter(char)
	})
}

// isNoncharacter says whether a code point is one of the 66 that Unicode will never make a character (The Unicode Standard,
// section 23.7): U+FDD0 to U+FDEF, and the last two of each plane.
func isNoncharacter(char rune) bool {
	return char >= 0xFDD0 && char <= 0xFDEF || char&0xFFFE == 0xFFFE
}

// jsonType names the type of a JSON value by its first character.
func jsonType(raw []byte) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	default:
		return "another number"
	}
}
