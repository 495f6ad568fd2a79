package main

import (
	"net/http"
	"time"

	"github.com/pycket/pycket"
)

// mayCheckOut reports whether the visitor may go on with the checkout. If not, it has sent the visitor elsewhere: to
// the login, to the cart if that is empty, or to enter the password again if that was long ago. Whoever sits down at a
// browser that stays logged in can look at the cart, but not buy it.
func (s *shop) mayCheckOut(w http.ResponseWriter, r *http.Request) (bool, error) {
	user, err := s.Session().User()
	if err != nil {
		return false, err
	}
	if user == "" {
		return false, s.mustLogIn(w, r)
	}
	c, err := pycket.Get(s.Session(), "cart", cart{})
	if err != nil {
		return false, err
	}
	if c.Count() == 0 {
		return false, s.goToWith(w, r, "/cart", warning, "Your cart is empty.")
	}
	at, err := s.Session().AuthTime()
	if err != nil {
		return false, err
	}
	if time.Since(at) > s.passwordAgain {
		return false, s.goTo(w, r, "/confirm")
	}
	return true, nil
}

func (s *shop) showCheckout(w http.ResponseWriter, r *http.Request) error {
	if may, err := s.mayCheckOut(w, r); !may {
		return err
	}
	return s.show(w, r, http.StatusOK, "checkout.html", "Check out", nil)
}

func (s *shop) showConfirm(w http.ResponseWriter, r *http.Request) error {
	user, err := s.Session().User()
	if err != nil {
		return err
	}
	if user == "" {
		return s.mustLogIn(w, r)
	}
	return s.show(w, r, http.StatusOK, "confirm.html", "Your password again", demo)
}

func (s *shop) confirm(w http.ResponseWriter, r *http.Request) error {
	password, err := field(r, "password")
	if err != nil {
		return err
	}
	user, err := s.Session().User()
	if err != nil {
		return err
	}
	if user == "" {
		return s.goTo(w, r, "/checkout") // which asks for a login
	}
	if !s.accounts.check(user, password) {
		return s.goToWith(w, r, "/confirm", failure, "That is not your password.")
	}
	// A Login of the same user keeps the cart, and whether the browser stays logged in.
	if err := s.Session().Login(user, nil); err != nil {
		return err
	}
	return s.goTo(w, r, "/checkout")
}

// checkOut places the order. It must ask again what showCheckout has asked, which may be long ago.
func (s *shop) checkOut(w http.ResponseWriter, r *http.Request) error {
	if may, err := s.mayCheckOut(w, r); !may {
		return err
	}
	// Pop reads and deletes in one step. If the button was pressed twice, one of the two requests gets the cart.
	c, err := pycket.Pop(s.Session(), "cart", cart{})
	if err != nil {
		return err
	}
	if c.Count() == 0 {
		return s.goTo(w, r, "/order")
	}
	if err := s.Session().Delete("naive"); err != nil {
		return err
	}
	// A notification can be any value. This one is for the next page, and for it alone.
	if err := s.Notifications().Set("order", c); err != nil {
		return err
	}
	return s.goToWith(w, r, "/order", success, "Thank you. Your order is placed.")
}

func (s *shop) showOrder(w http.ResponseWriter, r *http.Request) error {
	order, err := pycket.Get(s.Notifications(), "order", cart{})
	if err != nil {
		return err
	}
	return s.show(w, r, http.StatusOK, "order.html", "Your order", order)
}
