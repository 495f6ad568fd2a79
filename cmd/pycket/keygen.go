package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
)

// keygen makes a secret.
type keygen struct {
	Rotate bool `help:"Print the new list of secrets: a new one, and those of SECRETS or SECRET."`
}

// Help implements kong.HelpProvider.
func (*keygen) Help() string {
	return `Prints a secret for Settings.Secrets: 32 random bytes, in base64. With --rotate, prints the new list, one a line, the newest first; what to do with it is said on standard error.

Examples:

  pycket keygen > secret.txt
  SECRETS_FILE=secrets.txt pycket keygen --rotate > new.txt`
}

// secretBytes is how many random bytes a secret has, and the least that pycket.New takes.
const secretBytes = 32

// Run implements the command.
func (k *keygen) Run(t *tool) error {
	random := make([]byte, secretBytes)
	rand.Read(random) // which never fails
	secrets := []string{base64.StdEncoding.EncodeToString(random)}
	if !k.Rotate {
		if t.JSON {
			return t.out.json(map[string]string{"secret": secrets[0]})
		}
		_, err := fmt.Fprintln(t.out, secrets[0])
		return err
	}
	old, err := t.secrets()
	if err != nil {
		return err
	}
	if len(old) == 0 {
		return usageError{fmt.Errorf("there is no secret to rotate: put the present ones into SECRETS or SECRET, or name a file with them in SECRETS_FILE")}
	}
	secrets = append(secrets, old...)
	if i := slices.IndexFunc(secrets, func(s string) bool { return len(s) < secretBytes }); i >= 0 {
		fmt.Fprintf(t.err, "Secret %d of the list has fewer than %d bytes, and pycket.New refuses it.\n", i+1, secretBytes)
	}
	fmt.Fprint(t.err, `This list is the new value of Settings.Secrets, in this order. The first secret signs, and all verify.

1. If several processes serve the application and restart one after another, first give all of them the list with the
   new secret last: until then, those without it would take its cookies for forged, and visitors would lose their
   sessions.
2. Give all processes this list. New cookies are signed with the new secret, old ones go on working.
3. Drop the old secrets when the last cookies that they signed have expired: after Cookies.ExpiresDays or the longest
   Remember or, for cookies that last as long as the browser is open, AbsoluteTimeout. If they also seal values
   (pycket.Sealed), wait until the last session from before has ended.

If an old secret is known to somebody else, don't wait: give all processes only the new one. Everybody is logged out.
`)
	if t.JSON {
		return t.out.json(map[string][]string{"secrets": secrets})
	}
	for _, secret := range secrets {
		if _, err := fmt.Fprintln(t.out, secret); err != nil {
			return err
		}
	}
	return nil
}
