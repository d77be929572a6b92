/* Fuzzes meshrun's look at a program's file: ELF headers, "#!" lines and code. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "preload/binfmt.h"
#include "preload/own_calls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char interpreter[ELF_INTERPRETER_MAX];

	if (binfmt_elf(data, size, interpreter) == ELF_DYNAMIC)
		assert(strlen(interpreter) < sizeof(interpreter));
	if (binfmt_script(data, size, interpreter))
		assert(strlen(interpreter) > 0);
	own_calls_found(data, size);
	return 0;
}
