package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/pycket/pycket"
)

// OAuth logs visitors in by another site's accounts. The verifier of an attempt (PKCE, RFC 7636) is a notification under
// the attempt's state, so each state works once, in this browser only, and two tabs don't disturb each other.
type OAuth struct {
	pycket.SessionMixin
	pycket.NotificationMixin
	Config  *oauth2.Config
	Account string // where the provider tells whose token it is
}

// Begin sends the browser to the provider.
func (h *OAuth) Begin(w http.ResponseWriter, r *http.Request) {
	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	if err := h.Notifications().Set("oauth "+state, verifier); err != nil {
		sorry(w, err)
		return
	}
	http.Redirect(w, r, h.Config.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier)), http.StatusSeeOther)
}

// Callback is where the provider sends the browser back to.
func (h *OAuth) Callback(w http.ResponseWriter, r *http.Request) {
	verifier, err := pycket.Get(h.Notifications(), "oauth "+r.FormValue("state"), "")
	if err != nil {
		sorry(w, err)
		return
	}
	if verifier == "" {
		http.Error(w, "This login was not begun here, or is already over.", http.StatusBadRequest)
		return
	}
	user, err := h.user(r, verifier)
	if err != nil {
		http.Error(w, "The login failed.", http.StatusBadGateway)
		return
	}
	back(w, r, h.Session().Login(user, nil))
}

// user asks the provider who has logged in.
func (h *OAuth) user(r *http.Request, verifier string) (string, error) {
	token, err := h.Config.Exchange(r.Context(), r.FormValue("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		return "", err
	}
	response, err := h.Config.Client(r.Context(), token).Get(h.Account)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var account struct{ Sub string }
	if err := json.NewDecoder(response.Body).Decode(&account); err != nil {
		return "", err
	}
	if account.Sub == "" {
		return "", errors.New("the provider named no account")
	}
	return account.Sub, nil
}
