/* Says why Kconfig did not take a value, with Kconfig's own parser: linked with the objects of scripts/kconfig.
 *
 * usage: why NAME=VALUE...   (in the environment that make gives to scripts/kconfig/conf, with the result in .config)
 * Each reason is one line: NAME, a tab, the reason.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lkc.h"

#define DEEPEST 3 /* how far back a chain of options without a value is followed */

static void print_expression(struct expr *e)
{
	struct gstr text = str_new();

	expr_gstr_print(e, &text);
	fputs(str_get(&text), stdout);
	str_free(&text);
}

/* The names of the options that turn one on; returns what separates the next one. */
static const char *print_selectors(struct expr *e, const char *before)
{
	if (!e)
		return before;
	if (e->type == E_OR)
		return print_selectors(e->right.expr, print_selectors(e->left.expr, before));
	while (e->type == E_AND) /* the option, and the conditions under which it does */
		e = e->left.expr;
	if (e->type != E_SYMBOL || !e->left.sym->name)
		return before;
	printf("%s%s", before, e->left.sym->name);
	return ", ";
}

static void explain_unmet(const char *name, struct expr *e, tristate wanted, int depth);

/* The options that would have to be set first, where they cannot be set as they are. */
static void explain_symbol(const char *name, struct symbol *sym, tristate wanted, int depth)
{
	struct property *prop;
	int prompts = 0;

	if (depth >= DEEPEST || !sym->name)
		return;
	if (sym->dir_dep.expr && expr_calc_value(sym->dir_dep.expr) < wanted) {
		explain_unmet(name, sym->dir_dep.expr, wanted, depth + 1);
		return;
	}
	for (prop = sym->prop; prop; prop = prop->next) {
		if (prop->type != P_PROMPT && prop->type != P_MENU)
			continue;
		prompts++;
		if (prop->visible.expr && expr_calc_value(prop->visible.expr) < wanted)
			explain_unmet(name, prop->visible.expr, wanted, depth + 1);
	}
	if (!prompts) {
		printf("%s\t", name);
		if (strcmp(name, sym->name))
			printf("%s ", sym->name);
		printf("cannot be set by hand");
		print_selectors(sym->rev_dep.expr, ", only by ");
		putchar('\n');
	}
}

/* The parts of a condition that do not hold. */
static void explain_unmet(const char *name, struct expr *e, tristate wanted, int depth)
{
	if (e->type == E_AND) {
		explain_unmet(name, e->left.expr, wanted, depth);
		explain_unmet(name, e->right.expr, wanted, depth);
		return;
	}
	if (expr_calc_value(e) >= wanted)
		return;
	if (e->type == E_SYMBOL && (e->left.sym->flags & SYMBOL_CONST)) {
		printf("%s\tneeds something that this compiler or this source does not have\n", name);
		return;
	}
	printf("%s\tneeds ", name);
	print_expression(e);
	putchar('\n');
	if (e->type == E_SYMBOL)
		explain_symbol(name, e->left.sym, wanted, depth);
}

/* Who turns an option on: the parts of its reverse dependencies that hold. */
static void explain_selected(const char *name, struct expr *e)
{
	if (e->type == E_OR) {
		explain_selected(name, e->left.expr);
		explain_selected(name, e->right.expr);
	} else if (expr_calc_value(e) != no) {
		printf("%s\tis turned on by ", name);
		print_expression(e);
		putchar('\n');
	}
}

/* Which of the options of a choice is set in place of this one. */
static void explain_choice(const char *name, struct property *prompt)
{
	struct menu *other;

	if (!prompt->menu || !prompt->menu->parent)
		return;
	for (other = prompt->menu->parent->list; other; other = other->next)
		if (other->sym && other->sym->name && other->sym->curr.tri == yes &&
		    strcmp(other->sym->name, name))
			printf("%s\tis one of a choice, of which %s is set\n", name, other->sym->name);
}

static void explain(const char *name, const char *value)
{
	struct symbol *sym = sym_find(name);
	struct property *prop;
	tristate wanted;

	if (!sym || sym->type == S_UNKNOWN) {
		printf("%s\tis no option of this kernel\n", name);
		return;
	}
	sym_calc_value(sym);
	if (sym->type != S_BOOLEAN && sym->type != S_TRISTATE) {
		if (sym->type == S_STRING && *value != '"')
			printf("%s\tis text, in quotation marks: \"%s\"\n", name, value);
		else if (!sym_string_valid(sym, value) || !sym_string_within_range(sym, value))
			printf("%s\ttakes no such value: %s\n", name, value);
		else
			explain_symbol(name, sym, yes, 0);
		return;
	}
	wanted = *value == 'y' ? yes : *value == 'm' ? mod : no;
	if (sym->curr.tri > wanted) {
		if (sym->rev_dep.expr)
			explain_selected(name, sym->rev_dep.expr);
		explain_symbol(name, sym, yes, 0);
		return;
	}
	if (sym_is_choice_value(sym))
		for (prop = sym->prop; prop; prop = prop->next)
			if (prop->type == P_PROMPT && prop->visible.tri == yes)
				explain_choice(name, prop);
	explain_symbol(name, sym, wanted, 0);
}

int main(int argc, char **argv)
{
	int i;

	conf_parse("Kconfig");
	conf_read(NULL);
	for (i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');

		if (!value)
			return 2;
		*value++ = '\0';
		explain(argv[i], value);
	}
	return 0;
}
