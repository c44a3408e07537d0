/* Says that the image is up; stands for a program that is built from source. */
#include <stdio.h>

int main(void)
{
	puts("report: the image is up");
	return 0;
}
