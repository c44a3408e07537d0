// Hello-dotnet greets and says which runtime carries it.
using System;
using System.Runtime.InteropServices;

internal static class Program
{
    private static void Main()
    {
        Console.WriteLine($"hello-dotnet: Hello, trust domain ({RuntimeInformation.FrameworkDescription})");
    }
}
